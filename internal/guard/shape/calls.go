package shape

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// Function is a function or method with its number of parameters.
type Function struct {
	Name   string // with the path of its package, and the receiver
	Params int
	Pos    token.Position
}

// Functions returns the functions and methods that the package declares.
func (p *Package) Functions() []Function {
	var all []Function
	for _, f := range p.Files {
		for _, decl := range f.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			fn := p.Info.Defs[d.Name].(*types.Func)
			all = append(all, Function{fn.FullName(), fn.Signature().Params().Len(), p.Fset.Position(d.Pos())})
		}
	}
	return all
}

// Flag is a bool parameter for which a call passes a literal true or false.
type Flag struct {
	Func  string // with the path of its package, and the receiver
	Param string
	Call  token.Position // the first such call
}

// Flags returns the bool parameters, of functions of these packages and of
// variables of function type, for which calls in the packages pass true or
// false: one for each parameter, sorted.
func Flags(packages []*Package) []Flag {
	own := make(map[string]bool)
	for _, p := range packages {
		own[p.Path] = true
	}
	found := make(map[[2]string]Flag)
	for _, p := range packages {
		for _, f := range p.Files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				callee := p.callee(call)
				if callee == nil || callee.Pkg() == nil || !own[callee.Pkg().Path()] {
					return true
				}
				for _, param := range p.literalBools(call, callee) {
					key := [2]string{objectName(callee), param}
					if _, ok := found[key]; !ok {
						found[key] = Flag{key[0], param, p.Fset.Position(call.Pos())}
					}
				}
				return true
			})
		}
	}
	flags := make([]Flag, 0, len(found))
	for _, f := range found {
		flags = append(flags, f)
	}
	slices.SortFunc(flags, func(a, b Flag) int {
		return cmp.Or(cmp.Compare(a.Func, b.Func), cmp.Compare(a.Param, b.Param))
	})
	return flags
}

// callee returns the function, method or variable called; nil for a conversion
// and for a function without a name.
func (p *Package) callee(call *ast.CallExpr) types.Object {
	fun := ast.Unparen(call.Fun)
	switch x := fun.(type) { // the type arguments of a generic function
	case *ast.IndexExpr:
		fun = x.X
	case *ast.IndexListExpr:
		fun = x.X
	}
	switch x := fun.(type) {
	case *ast.Ident:
		return origin(p.Info.Uses[x])
	case *ast.SelectorExpr:
		return origin(p.Info.Uses[x.Sel])
	}
	return nil
}

// origin returns the declared function or variable that obj may be an instance
// of.
func origin(obj types.Object) types.Object {
	switch o := obj.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return nil
}

// literalBools returns the names of the parameters for which the call passes a
// literal true or false. A parameter without a name is "_".
func (p *Package) literalBools(call *ast.CallExpr, callee types.Object) []string {
	sig, ok := callee.Type().Underlying().(*types.Signature)
	if !ok {
		return nil
	}
	var names []string
	for i, arg := range call.Args {
		id, ok := ast.Unparen(arg).(*ast.Ident)
		if !ok || i >= sig.Params().Len() {
			continue
		}
		obj := p.Info.Uses[id]
		if obj != types.Universe.Lookup("true") && obj != types.Universe.Lookup("false") {
			continue
		}
		param := sig.Params().At(i)
		if basic, ok := param.Type().Underlying().(*types.Basic); ok && basic.Kind() == types.Bool {
			names = append(names, cmp.Or(param.Name(), "_"))
		}
	}
	return names
}

func objectName(obj types.Object) string {
	if fn, ok := obj.(*types.Func); ok {
		return fn.FullName()
	}
	return obj.Pkg().Path() + "." + obj.Name()
}
