package certmgr_test

import (
	"os"
	"testing"

	"github.com/nostall/nostall/internal/cases"
)

// table knows the cases of this package that are known to fail.
var table = cases.For("certmgr")

func TestMain(m *testing.M) { os.Exit(table.Main(m)) }
