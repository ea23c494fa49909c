package shape_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

// sources are packages checked in sequence. They can import earlier ones only.
type sources map[string]*types.Package

func (s sources) Import(path string) (*types.Package, error) {
	if p, ok := s[path]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("no package %s", path)
}

// check type-checks a package of one file, example.org/<name>.
func (s sources) check(t *testing.T, source string) *shape.Package {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "source.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	path := "example.org/" + f.Name.Name
	p, err := shape.Check(path, fset, []*ast.File{f}, s)
	if err != nil {
		t.Fatal(err)
	}
	s[path] = p.Types
	return p
}
