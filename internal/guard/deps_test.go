package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// requirements are the only modules that the core module may require.
var requirements = []string{"golang.org/x/crypto", "golang.org/x/net", "golang.org/x/sync"}

// leastCrypto is the oldest supported version of x/crypto.
var leastCrypto = [3]int{0, 58, 0}

// goMod is the part of the output of go mod edit -json that these tests use.
type goMod struct {
	Module  struct{ Path string }
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace, Exclude, Tool []json.RawMessage
}

func readGoMod(t *testing.T) goMod {
	t.Helper()
	// The go command parses the file. Reading it here too makes a cached result
	// of this test depend on it.
	if _, err := os.ReadFile(filepath.Join("..", "..", "go.mod")); err != nil {
		t.Fatal(err)
	}
	var mod goMod
	if err := json.Unmarshal(goCommand(t, nil, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

func TestCoreRequiresThreeModules(t *testing.T) {
	mod := readGoMod(t)
	if mod.Module.Path != module {
		t.Errorf("the core module is %s, want %s", mod.Module.Path, module)
	}
	var direct []string
	for _, r := range mod.Require {
		switch {
		case !r.Indirect:
			direct = append(direct, r.Path)
		case !strings.HasPrefix(r.Path, "golang.org/x/"):
			// The three modules themselves need others of golang.org/x:
			// x/net/idna imports x/text, which go.mod must list too. Modules
			// from elsewhere cannot come in through them.
			t.Errorf("go.mod requires %s, indirectly: the core module depends on golang.org/x alone; "+
				"what needs it belongs into a nested module", r.Path)
		}
	}
	slices.Sort(direct)
	if !slices.Equal(direct, requirements) {
		t.Errorf("go.mod requires %q, want exactly %q: what needs another module belongs into a nested module",
			direct, requirements)
	}
	if len(mod.Replace)+len(mod.Exclude)+len(mod.Tool) != 0 {
		t.Error("go.mod has replace, exclude or tool directives: users' builds ignore the first two, " +
			"and tools are pinned in tools/go.mod")
	}
}

func TestCryptoIsRecentEnough(t *testing.T) {
	const path = "golang.org/x/crypto"
	for _, r := range readGoMod(t).Require {
		if r.Path != path {
			continue
		}
		var v [3]int
		if _, err := fmt.Sscanf(r.Version, "v%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
			t.Fatalf("%s has version %q: %v", path, r.Version, err)
		}
		if slices.Compare(v[:], leastCrypto[:]) < 0 {
			t.Errorf("go.mod requires %s %s, want v%d.%d.%d or newer", path, r.Version,
				leastCrypto[0], leastCrypto[1], leastCrypto[2])
		}
		return
	}
	t.Errorf("go.mod does not require %s", path)
}

func TestCoreImportsOnlyStdAndX(t *testing.T) {
	for _, platform := range platforms {
		t.Run(platform, func(t *testing.T) {
			culprits := make(map[string][]string) // import path to importers
			for _, p := range listDeps(t, platform) {
				if p.Standard {
					continue // it vendors packages under other paths
				}
				for _, path := range p.Imports {
					if foreign(path) {
						culprits[path] = append(culprits[path], p.ImportPath)
					}
				}
			}
			for _, path := range slices.Sorted(maps.Keys(culprits)) {
				t.Errorf("%q imports %s: the core module is built from the standard library and golang.org/x alone",
					culprits[path], path)
			}
		})
	}
}

// foreign reports whether path is neither in the standard library, nor in this
// module, nor in golang.org/x. Only import paths of the standard library have
// no dot before the first slash.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !in(path, module) && !strings.HasPrefix(path, "golang.org/x/")
}

func TestForeign(t *testing.T) {
	for path, want := range map[string]bool{
		"crypto/tls":                         false,
		"golang.org/x/crypto/acme":           false,
		module:                               false,
		module + "/certmgr":                  false,
		module + "x/certmgr":                 true,
		"github.com/caddyserver/certmagic":   true,
		"golang.org/toolchain":               true,
		"honnef.co/go/tools/cmd/staticcheck": true,
	} {
		if got := foreign(path); got != want {
			t.Errorf("foreign(%q) = %t, want %t", path, got, want)
		}
	}
}
