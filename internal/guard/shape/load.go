// Package shape measures the structure of Go packages: how types refer to each
// other, how wide they are, how functions are called, and the API.
//
// It works on source code and types alone; its callers know the project's
// rules. It starts no goroutine.
package shape

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"slices"
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

	// External is the number of test files outside of the package, in package
	// p_test. LoadWithTests sets it.
	External int

	tests int // number of tests, at the end of Files
}

// listed is the part of go list's output that is used.
type listed struct {
	ImportPath, Dir, Export            string
	GoFiles, TestGoFiles, XTestGoFiles []string
	DepOnly                            bool   // not named by the patterns
	ForTest                            string // a variant of the package for tests
}

// Load loads the packages that match the patterns, without their tests, in the
// order of their paths. It runs the go command in dir.
func Load(ctx context.Context, dir string, patterns ...string) ([]*Package, error) {
	list, exports, err := goList(ctx, dir, patterns...)
	if err != nil {
		return nil, err
	}
	r := newReader(exports)
	var packages []*Package
	for _, l := range list {
		if l.DepOnly || len(l.GoFiles) == 0 {
			continue
		}
		p, err := r.read(l.ImportPath, l.Dir, l.GoFiles)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	slices.SortFunc(packages, func(a, b *Package) int { return strings.Compare(a.Path, b.Path) })
	return packages, nil
}

// LoadWithTests loads the package with this import path together with its
// internal tests.
func LoadWithTests(ctx context.Context, dir, path string) (*Package, error) {
	list, exports, err := goList(ctx, dir, "-test", path)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(l listed) bool { return l.ImportPath == path && l.ForTest == "" })
	if i < 0 {
		return nil, fmt.Errorf("go list does not know %s", path)
	}
	l := list[i]
	p, err := newReader(exports).read(l.ImportPath, l.Dir, slices.Concat(l.GoFiles, l.TestGoFiles))
	if err != nil {
		return nil, err
	}
	p.tests, p.External = len(l.TestGoFiles), len(l.XTestGoFiles)
	return p, nil
}

// A reader loads packages, using the compiler's export data of their imports.
type reader struct {
	fset     *token.FileSet
	importer types.Importer
}

func newReader(exports map[string]string) *reader {
	fset := token.NewFileSet()
	return &reader{fset, importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
}

func (r *reader) read(path, dir string, names []string) (*Package, error) {
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(r.fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	p, err := Check(path, r.fset, files, r.importer)
	if err != nil {
		return nil, err
	}
	p.Dir = dir
	return p, nil
}

// Check type-checks the files of the package at path.
func Check(path string, fset *token.FileSet, files []*ast.File, importer types.Importer) (*Package, error) {
	p := &Package{
		Path:  path,
		Files: files,
		Fset:  fset,
		Info: &types.Info{
			Types:      make(map[ast.Expr]types.TypeAndValue),
			Defs:       make(map[*ast.Ident]types.Object),
			Uses:       make(map[*ast.Ident]types.Object),
			Selections: make(map[*ast.SelectorExpr]*types.Selection),
		},
	}
	conf := types.Config{Importer: importer}
	var err error
	p.Types, err = conf.Check(path, fset, files, p.Info)
	return p, err
}

// goList runs go list and returns the packages, and the files with the export
// data of them and all their imports.
func goList(ctx context.Context, dir string, args ...string) ([]listed, map[string]string, error) {
	var stderr bytes.Buffer
	args = append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,TestGoFiles,XTestGoFiles,DepOnly,ForTest"}, args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list: %w\n%s", err, &stderr)
	}
	var list []listed
	exports := make(map[string]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return list, exports, nil
		} else if err != nil {
			return nil, nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, l)
		exports[l.ImportPath] = l.Export
	}
}
