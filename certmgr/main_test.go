package certmgr_test

import (
	"os"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// table knows the cases of this package that are known to fail.
var table = certmgr.CaseTable

func TestMain(m *testing.M) { os.Exit(table.Main(m)) }
