package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// module is the path of the core module.
const module = "github.com/nostall/nostall"

// platforms lists the platforms whose dependencies are checked. A file with a
// build constraint could add a dependency on only one of them.
var platforms = []string{"linux/amd64", "darwin/arm64", "windows/amd64"}

// goPackage is the part of go list's output that these tests use.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string // of the package, without its tests
	Deps       []string // transitive imports
	DepOnly    bool     // not named on the command line
}

// goCommand runs the go command on the core module alone, as a user's build
// does: without the workspace, and without permission to change go.mod.
func goCommand(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// lists holds what listDeps returns, by platform: go list takes long.
var lists = struct {
	mu sync.Mutex
	of map[string][]goPackage
}{of: make(map[string][]goPackage)}

// listDeps returns all packages of the core module and their transitive imports
// for platform. Tests are excluded: their imports are in no user's program.
func listDeps(t *testing.T, platform string) []goPackage {
	t.Helper()
	lists.mu.Lock()
	defer lists.mu.Unlock()
	if lists.of[platform] == nil {
		lists.of[platform] = goListDeps(t, platform)
	}
	return lists.of[platform]
}

func goListDeps(t *testing.T, platform string) []goPackage {
	t.Helper()
	goos, goarch, _ := strings.Cut(platform, "/")
	out := goCommand(t, []string{"GOOS=" + goos, "GOARCH=" + goarch},
		"list", "-deps", "-json=ImportPath,Standard,Imports,Deps,DepOnly", "./...")
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	return packages
}

// in reports whether path is root or below it.
func in(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}
