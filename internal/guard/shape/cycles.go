package shape

import (
	"go/ast"
	"go/types"
	"maps"
	"slices"
)

// uses returns, for each package-level type, the others that its declaration or
// methods name.
func (p *Package) uses() map[string]map[string]bool {
	graph := make(map[string]map[string]bool)
	for _, f := range p.Files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if t, ok := spec.(*ast.TypeSpec); ok {
						p.addUses(graph, t.Name.Name, t)
					}
				}
			case *ast.FuncDecl:
				if from := receiver(d); from != "" {
					p.addUses(graph, from, d)
				}
			}
		}
	}
	return graph
}

// addUses records the package's types that node names, directly or by a field
// or method.
func (p *Package) addUses(graph map[string]map[string]bool, from string, node ast.Node) {
	if graph[from] == nil {
		graph[from] = make(map[string]bool)
	}
	note := func(t types.Type) {
		if name := p.named(t); name != "" && name != from {
			graph[from][name] = true
		}
	}
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if sel := p.Info.Selections[n]; sel != nil {
				note(sel.Recv())
			}
		case *ast.Ident:
			if t, ok := p.Info.Uses[n].(*types.TypeName); ok {
				note(t.Type())
			}
		}
		return true
	})
}

// named returns the name of a package-level type of the package, dereferencing
// a pointer; "" for any other type.
func (p *Package) named(t types.Type) string {
	if ptr, ok := types.Unalias(t).(*types.Pointer); ok {
		t = ptr.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() != p.Types || named.Obj().Parent() != p.Types.Scope() {
		return ""
	}
	return named.Obj().Name()
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// Cycles returns the groups of types that all refer to each other, by their
// declarations and methods. Each group is sorted, and the largest comes first.
func (p *Package) Cycles() [][]string {
	graph := p.uses()
	// Tarjan's algorithm: strongly connected components.
	index, low := make(map[string]int), make(map[string]int)
	on := make(map[string]bool)
	var stack []string
	var cycles [][]string
	var visit func(v string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack, on[v] = append(stack, v), true
		for _, w := range slices.Sorted(maps.Keys(graph[v])) {
			if index[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if on[w] {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		start := slices.Index(stack, v)
		group := slices.Clone(stack[start:])
		for _, w := range group {
			on[w] = false
		}
		stack = stack[:start]
		if len(group) > 1 {
			slices.Sort(group)
			cycles = append(cycles, group)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(graph)) {
		if index[v] == 0 {
			visit(v)
		}
	}
	slices.SortStableFunc(cycles, func(a, b []string) int { return len(b) - len(a) })
	return cycles
}

// Uses returns how each type of a group refers to others in it.
func (p *Package) Uses(group []string) map[string][]string {
	graph := p.uses()
	within := make(map[string][]string)
	for _, from := range group {
		for _, to := range slices.Sorted(maps.Keys(graph[from])) {
			if slices.Contains(group, to) {
				within[from] = append(within[from], to)
			}
		}
	}
	return within
}
