package guard

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

// loadCore loads the packages of the core module once for all tests.
var loadCore = sync.OnceValues(func() ([]*shape.Package, error) {
	return shape.Load(context.Background(), filepath.Join("..", ".."), "./...")
})

func corePackages(t *testing.T) []*shape.Package {
	t.Helper()
	packages, err := loadCore()
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) == 0 {
		t.Fatal("found no package")
	}
	return packages
}

// A tolerated is an exception to a rule: a name, without the path of the
// module, and the reason.
type tolerated map[string]string

// check compares violations of a rule, with advice for each, with the tolerated
// ones. An exception that no longer applies must leave the list, so lists only
// shrink.
func (tol tolerated) check(t *testing.T, list string, found map[string]string) {
	t.Helper()
	for _, name := range sortedKeys(found) {
		if _, ok := tol[name]; !ok {
			t.Errorf("%s: %s", name, found[name])
		}
	}
	for _, name := range sortedKeys(tol) {
		if _, ok := found[name]; !ok {
			t.Errorf("%s keeps the rule now, or is gone: take it off the list %s in internal/guard", name, list)
		}
		if tol[name] == "" {
			t.Errorf("%s is on the list %s without a reason", name, list)
		}
	}
}
