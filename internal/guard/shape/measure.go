package shape

import (
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
)

// Width is the width of a struct with methods.
type Width struct {
	Type    string
	Fields  int // an embedded field counts as one
	Methods int // without promoted ones
}

// Widths returns the widths of structs that have methods, sorted by name.
func (p *Package) Widths() []Width {
	methods := make(map[string]int)
	for _, f := range p.Files {
		for _, decl := range f.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok && d.Recv != nil {
				methods[receiver(d)]++
			}
		}
	}
	var all []Width
	for _, name := range p.Types.Scope().Names() {
		t, ok := p.Types.Scope().Lookup(name).(*types.TypeName)
		if !ok || methods[name] == 0 {
			continue
		}
		if s, ok := t.Type().Underlying().(*types.Struct); ok {
			all = append(all, Width{name, s.NumFields(), methods[name]})
		}
	}
	return all
}

// Exported returns the exported package-level names: the package's index,
// without methods and fields.
func (p *Package) Exported() []string {
	return slices.DeleteFunc(p.Types.Scope().Names(), func(name string) bool { return !ast.IsExported(name) })
}

// Lines returns the number of lines of the files, without tests.
func (p *Package) Lines() int {
	n := 0
	for _, f := range p.Files[:len(p.Files)-p.tests] {
		n += p.Fset.File(f.FileStart).LineCount()
	}
	return n
}

// WhiteBoxTests returns the test files that are part of the package: those that
// use unexported names of it, and those that do not.
func (p *Package) WhiteBoxTests() (using, others []string) {
	tests := p.Files[len(p.Files)-p.tests:]
	isTest := make(map[string]bool)
	for _, f := range tests {
		isTest[p.Fset.File(f.FileStart).Name()] = true
	}
	for _, f := range tests {
		found := false
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || found {
				return !found
			}
			obj := p.Info.Uses[id]
			if obj != nil && obj.Pkg() == p.Types && !obj.Exported() && isShared(p.Types, obj) && !isTest[p.Fset.File(obj.Pos()).Name()] {
				found = true
			}
			return true
		})
		name := filepath.Base(p.Fset.File(f.FileStart).Name())
		if found {
			using = append(using, name)
		} else {
			others = append(others, name)
		}
	}
	return using, others
}

// isShared reports whether obj is visible in the whole package: declared at
// package level, or a field or method.
func isShared(pkg *types.Package, obj types.Object) bool {
	if obj.Parent() == pkg.Scope() {
		return true
	}
	switch o := obj.(type) {
	case *types.Var:
		return o.IsField()
	case *types.Func:
		return true
	}
	return false
}
