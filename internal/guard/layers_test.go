package guard

import (
	"slices"
	"testing"
)

const certmgr = module + "/certmgr"

// layers says which packages a package must not lead to, its tests aside.
var layers = []struct {
	below  string // the packages at and below this path
	never  []string
	reason string
}{
	{
		below:  module + "/internal",
		never:  []string{certmgr},
		reason: "certmgr is built on internal packages, not the other way round",
	},
	{
		below:  certmgr + "/cache",
		never:  []string{certmgr},
		reason: "a cache is of use without the manager, with autocert for one",
	},
	{
		below:  certmgr + "/acmetest",
		never:  []string{certmgr},
		reason: "the fake CA tests any ACME client, and certmgr's own tests import it",
	},
}

func TestLayers(t *testing.T) {
	for _, p := range listDeps(t, platforms[0]) {
		for _, l := range layers {
			if !in(p.ImportPath, l.below) {
				continue
			}
			for _, never := range l.never {
				if slices.Contains(p.Deps, never) {
					t.Errorf("%s imports %s, directly or not: %s", p.ImportPath, never, l.reason)
				}
			}
		}
	}
}

// What a user's server is built from must hold no test code. Importing testing
// alone adds flags to every program.
//
// Three packages of test code are no _test.go files because tests of several
// packages share them: cachetest, which users run as well; conformance, whose one
// table runs against acmetest here and against Pebble in the nested module
// internal/integration; and cases, whose table of known failures is that of several
// packages. Nothing else may import them either.
func TestProductionCodeLeavesTestCodeOut(t *testing.T) {
	testOnly := []string{
		"testing", "net/http/httptest", certmgr + "/acmetest", certmgr + "/cache/cachetest", module + "/internal/conformance",
		module + "/internal/cases",
	}
	for _, p := range listDeps(t, platforms[0]) {
		if p.DepOnly || slices.Contains(testOnly, p.ImportPath) {
			continue
		}
		for _, path := range testOnly {
			if slices.Contains(p.Deps, path) {
				t.Errorf("%s imports %s, directly or not: keep it to _test.go files", p.ImportPath, path)
			}
		}
	}
}
