package guard

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

var update = flag.Bool("update", false, "write the golden files of the API anew")

// A publicPackage is a package that users import.
type publicPackage struct {
	pkg       string // its path below the module
	ownModule bool   // it is not part of the core module or its zip
	backend   bool   // its module is in backends.work, and not in go.work
}

// public returns all of them. Their exports are a promise.
var public = []publicPackage{
	{pkg: "certmgr"},
	{pkg: "certmgr/acmetest"},
	{pkg: "certmgr/acmetest/dnstest"},
	{pkg: "certmgr/askpolicy"},
	{pkg: "certmgr/audit"},
	{pkg: "certmgr/cache"},
	{pkg: "certmgr/cache/cachetest"},
	{pkg: "certmgr/cache/rediscache", ownModule: true, backend: true},
	{pkg: "certmgr/cache/sqlcache", ownModule: true, backend: true},
	{pkg: "certmgr/pemfiles"},
	{pkg: "certmgr/preflight"},
	{pkg: "certmgr/prommetrics", ownModule: true},
	{pkg: "certmgr/status"},
}

// testdata/api lists everything that users can name, one line each, so that a
// change shows in a review.
func TestAPI(t *testing.T) {
	for _, p := range public {
		t.Run(p.pkg, func(t *testing.T) {
			loaded := publicPackageAt(t, p)
			compareAPI(t, filepath.Join("testdata", "api", strings.ReplaceAll(p.pkg, "/", "_")+".txt"), loaded.API())
		})
	}
}

// publicPackageAt returns the package. A module of its own may be missing.
func publicPackageAt(t *testing.T, row publicPackage) *shape.Package {
	t.Helper()
	for _, p := range corePackages(t) {
		if short(p.Path) == row.pkg {
			return p
		}
	}
	dir := filepath.Join("..", "..", filepath.FromSlash(row.pkg))
	if _, err := os.Stat(dir); row.ownModule && errors.Is(err, fs.ErrNotExist) {
		t.Skip("this is the core module alone")
	}
	if row.ownModule {
		workspace := "go.work"
		if row.backend {
			workspace = "backends.work"
		}
		file, err := filepath.Abs(filepath.Join("..", "..", workspace))
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("GOWORK", file)
	}
	packages, err := shape.Load(t.Context(), dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	return packages[0]
}

func compareAPI(t *testing.T, golden string, api []string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(api, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	content, err := os.ReadFile(golden)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n")), "\n")
	var changes []string
	for _, line := range want {
		if !slices.Contains(api, line) {
			changes = append(changes, "- "+line)
		}
	}
	for _, line := range api {
		if !slices.Contains(want, line) {
			changes = append(changes, "+ "+line)
		}
	}
	if len(changes) != 0 {
		t.Errorf("what users see has changed:\n%s\nIf that is meant, say it in CHANGELOG.md and run\n"+
			"\tgo test ./internal/guard -run TestAPI -update", strings.Join(changes, "\n"))
	}
}

// Users can import every package below certmgr but commands, so each must be on
// the list.
func TestAPIOfEachPublicPackageIsGuarded(t *testing.T) {
	for _, p := range corePackages(t) {
		listed := slices.ContainsFunc(public, func(row publicPackage) bool { return row.pkg == short(p.Path) })
		if in(p.Path, certmgr) && p.Types.Name() != "main" && !strings.Contains(p.Path, "/internal/") && !listed {
			t.Errorf("users can import %s, which is not on the list public in internal/guard", p.Path)
		}
	}
}
