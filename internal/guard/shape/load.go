// Package shape measures the structure of a Go package: which of its types lead
// to which, how wide they are, and what its users see.
package shape

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Package is a package, parsed and type-checked.
type Package struct {
	Path  string
	Dir   string
	Files []*ast.File
	Fset  *token.FileSet
	Types *types.Package
	Info  *types.Info

	tests int // how many of Files, the last ones, are tests
}

// Load reads the package with this import path, without its tests. It runs the go
// command, in dir.
func Load(ctx context.Context, dir, path string) (*Package, error) {
	return load(ctx, dir, path, "{{join .GoFiles \"\\n\"}}")
}

// LoadWithTests is Load with those tests that are part of the package.
func LoadWithTests(ctx context.Context, dir, path string) (*Package, error) {
	return load(ctx, dir, path, "{{join .GoFiles \"\\n\"}}\n{{join .TestGoFiles \"\\n\"}}")
}

func load(ctx context.Context, dir, path, files string) (*Package, error) {
	exports, err := exportData(ctx, dir, path)
	if err != nil {
		return nil, err
	}
	out, err := goList(ctx, dir, "-f", "{{.Dir}}\n"+files, path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	p := &Package{Path: path, Dir: lines[0], Fset: token.NewFileSet(), Info: &types.Info{
		Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object),
		Selections: make(map[*ast.SelectorExpr]*types.Selection)}}
	for _, name := range lines[1:] {
		f, err := parser.ParseFile(p.Fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		p.Files = append(p.Files, f)
		if strings.HasSuffix(name, "_test.go") {
			p.tests++
		}
	}
	conf := types.Config{Importer: importer.ForCompiler(p.Fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	p.Types, err = conf.Check(path, p.Fset, p.Files, p.Info)
	return p, err
}

// exportData returns the files with the compiler's export data of a package and of
// all that it imports.
func exportData(ctx context.Context, dir, path string) (map[string]string, error) {
	out, err := goList(ctx, dir, "-export", "-deps", "-test", "-f", "{{.ImportPath}}\t{{.Export}}", path)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for line := range strings.Lines(out) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = file
	}
	return files, nil
}

func goList(ctx context.Context, dir string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w\n%s", err, &stderr)
	}
	return string(out), nil
}
