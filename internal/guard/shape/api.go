package shape

import (
	"fmt"
	"go/types"
	"slices"
	"strings"
)

// API returns the package's API, one line for each constant, variable,
// function, type, field and method, sorted. Names of parameters are left out:
// changing one breaks no code.
func (p *Package) API() []string {
	a := &api{pkg: p.Types}
	for _, name := range p.Exported() {
		switch obj := p.Types.Scope().Lookup(name).(type) {
		case *types.Const:
			a.add("const %s %s = %s", name, a.text(obj.Type()), obj.Val().ExactString())
		case *types.Var:
			a.add("var %s %s", name, a.text(obj.Type()))
		case *types.Func:
			a.add("func %s%s", name, a.signature(obj.Signature()))
		case *types.TypeName:
			a.addType(obj)
		}
	}
	slices.Sort(a.lines)
	return slices.Compact(a.lines)
}

// api collects the lines of a package.
type api struct {
	pkg   *types.Package
	lines []string
}

func (a *api) add(format string, args ...any) {
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

func (a *api) addType(obj *types.TypeName) {
	name := obj.Name()
	if obj.IsAlias() {
		t := obj.Type()
		if alias, ok := t.(*types.Alias); ok {
			t = alias.Rhs()
		}
		a.add("type %s = %s", name, a.text(t))
		return
	}
	named := obj.Type().(*types.Named)
	name += a.typeParams(named.TypeParams())
	switch t := named.Underlying().(type) {
	case *types.Struct:
		a.add("type %s struct", name)
		a.addFields(name, t)
	case *types.Interface:
		a.add("type %s interface", name)
		a.addInterface(name, t)
		return // its methods are in there
	default:
		a.add("type %s %s", name, a.text(t))
	}
	a.addMethods(named)
}

// addFields adds the exported fields of a struct, including those promoted from
// an embedded unexported struct of the package.
func (a *api) addFields(name string, s *types.Struct) {
	for field := range s.Fields() {
		switch {
		case field.Embedded() && field.Exported():
			a.add("type %s struct, embeds %s", name, a.text(field.Type()))
		case field.Exported():
			a.add("type %s struct, %s %s", name, field.Name(), a.text(field.Type()))
		case field.Embedded():
			t := field.Type().Underlying()
			if ptr, ok := t.(*types.Pointer); ok {
				t = ptr.Elem().Underlying()
			}
			if inner, ok := t.(*types.Struct); ok {
				a.addFields(name, inner)
			}
		}
	}
}

func (a *api) addInterface(name string, t *types.Interface) {
	for embedded := range t.EmbeddedTypes() {
		if _, ok := types.Unalias(embedded).(*types.Named); !ok { // the types of a constraint
			a.add("type %s interface, %s", name, a.text(embedded))
		}
	}
	for method := range t.Methods() {
		if method.Exported() {
			a.add("type %s interface, %s%s", name, method.Name(), a.signature(method.Signature()))
		} else {
			a.add("type %s interface, has methods that only the package can implement", name)
		}
	}
}

// addMethods adds the exported methods of a type, including promoted ones.
// Methods of the value have the value as receiver.
func (a *api) addMethods(named *types.Named) {
	values := types.NewMethodSet(named)
	for sel := range types.NewMethodSet(types.NewPointer(named)).Methods() {
		method := sel.Obj().(*types.Func)
		if !method.Exported() {
			continue
		}
		receiver := "*" + named.Obj().Name()
		if values.Lookup(a.pkg, method.Name()) != nil {
			receiver = named.Obj().Name()
		}
		a.add("method (%s) %s%s", receiver, method.Name(), a.signature(method.Signature()))
	}
}

// text formats a type with package names instead of paths.
func (a *api) text(t types.Type) string {
	if sig, ok := t.(*types.Signature); ok {
		return "func" + a.signature(sig)
	}
	return types.TypeString(a.unnamed(t), func(pkg *types.Package) string {
		if pkg == a.pkg {
			return ""
		}
		return pkg.Name()
	})
}

func (a *api) signature(sig *types.Signature) string {
	var b strings.Builder
	b.WriteString(a.typeParams(sig.TypeParams()))
	b.WriteString("(")
	for i := range sig.Params().Len() {
		if i > 0 {
			b.WriteString(", ")
		}
		t := sig.Params().At(i).Type()
		if slice, ok := t.(*types.Slice); ok && sig.Variadic() && i == sig.Params().Len()-1 {
			b.WriteString("..." + a.text(slice.Elem()))
			continue
		}
		b.WriteString(a.text(t))
	}
	b.WriteString(")")
	results := make([]string, 0, sig.Results().Len())
	for result := range sig.Results().Variables() {
		results = append(results, a.text(result.Type()))
	}
	switch len(results) {
	case 0:
	case 1:
		b.WriteString(" " + results[0])
	default:
		b.WriteString(" (" + strings.Join(results, ", ") + ")")
	}
	return b.String()
}

func (a *api) typeParams(list *types.TypeParamList) string {
	var params []string
	for param := range list.TypeParams() {
		params = append(params, param.Obj().Name()+" "+a.text(param.Constraint()))
	}
	if len(params) == 0 {
		return ""
	}
	return "[" + strings.Join(params, ", ") + "]"
}

// unnamed returns t without the parameter names of those function types that
// its own text would show.
func (a *api) unnamed(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Signature:
		return types.NewSignatureType(nil, nil, nil, a.unnamedTuple(t.Params()), a.unnamedTuple(t.Results()), t.Variadic())
	case *types.Pointer:
		return types.NewPointer(a.unnamed(t.Elem()))
	case *types.Slice:
		return types.NewSlice(a.unnamed(t.Elem()))
	case *types.Array:
		return types.NewArray(a.unnamed(t.Elem()), t.Len())
	case *types.Map:
		return types.NewMap(a.unnamed(t.Key()), a.unnamed(t.Elem()))
	case *types.Chan:
		return types.NewChan(t.Dir(), a.unnamed(t.Elem()))
	}
	return t
}

func (a *api) unnamedTuple(tuple *types.Tuple) *types.Tuple {
	var vars []*types.Var
	for v := range tuple.Variables() {
		vars = append(vars, types.NewParam(0, nil, "", a.unnamed(v.Type())))
	}
	return types.NewTuple(vars...)
}
