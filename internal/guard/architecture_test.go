package guard

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/guard/shape"
)

// The document gives the value of and the reason for each time-out, period and
// cap.
func TestArchitectureListsConstants(t *testing.T) {
	docTable{"constants", inCode(t, constantsOf), 1}.check(t)
}

// The document says what each mutex protects.
func TestArchitectureListsMutexes(t *testing.T) {
	docTable{"mutexes", inCode(t, mutexesOf), 1}.check(t)
}

// For each function that starts goroutines, the document says what they do and
// what ends them.
func TestArchitectureListsGoroutines(t *testing.T) {
	docTable{"goroutines", inCode(t, goroutinesOf), 2}.check(t)
}

// inCode returns what find finds in the packages that are part of users'
// programs.
func inCode(t *testing.T, find func(*shape.Package) []entry) []entry {
	t.Helper()
	var all []entry
	for _, p := range corePackages(t) {
		if !inProduction(short(p.Path)) {
			continue
		}
		found := find(p)
		for i := range found {
			found[i].pkg = short(p.Path)
		}
		slices.SortFunc(found, func(a, b entry) int {
			return cmp.Or(cmp.Compare(strings.ToLower(a.name), strings.ToLower(b.name)), cmp.Compare(a.name, b.name))
		})
		all = append(all, names(found)...)
	}
	return all
}

// names removes duplicates, such as two goroutines of one function.
func names(found []entry) []entry {
	return slices.CompactFunc(found, func(a, b entry) bool { return a.name == b.name })
}

func constantsOf(p *shape.Package) []entry {
	var found []entry
	for _, name := range p.Types.Scope().Names() {
		c, ok := p.Types.Scope().Lookup(name).(*types.Const)
		if !ok {
			continue
		}
		value, exact := constant.Int64Val(constant.ToInt(c.Val()))
		switch {
		case isNamed(c.Type(), "time", "Duration"):
			found = append(found, entry{name: name, rest: []string{plainDuration(time.Duration(value))}})
		case exact && isInteger(c.Type()) && isCap(name):
			found = append(found, entry{name: name, rest: []string{thousands(value)}})
		}
	}
	return found
}

// otherCaps holds limits whose names do not say so.
var otherCaps = []string{"breakerDomains", "longCause", "readers", "shortCause"}

// isCap reports whether a number with this name is a limit.
func isCap(name string) bool {
	lower := strings.ToLower(name)
	return strings.Contains(lower, "max") || strings.HasSuffix(lower, "burst") || strings.HasSuffix(lower, "limit") ||
		slices.Contains(otherCaps, name)
}

func isInteger(t types.Type) bool {
	b, ok := t.(*types.Basic) // one of a named type is a kind of something
	return ok && b.Info()&types.IsInteger != 0
}

func isNamed(t types.Type, pkg string, names ...string) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == pkg && slices.Contains(names, n.Obj().Name())
}

// plainDuration formats d as the document does: "6 h 44 min".
func plainDuration(d time.Duration) string {
	var parts []string
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {1, "ns"}} {
		if n := d / unit.size; n != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, unit.name))
			d -= n * unit.size
		}
	}
	return cmp.Or(strings.Join(parts, " "), "0 s")
}

// thousands formats n with commas: "10,000".
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func TestPlainDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                      "0 s",
		72 * time.Second:       "1 min 12 s",
		404 * time.Minute:      "6 h 44 min",
		100 * time.Millisecond: "100 ms",
		30 * 24 * time.Hour:    "30 d",
	} {
		if got := plainDuration(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{7: "7", 256: "256", 1024: "1,024", 1000000: "1,000,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

// mutexesOf returns the mutexes that are fields or variables of the package.
func mutexesOf(p *shape.Package) []entry {
	var found []entry
	eachDecl(p, func(owner string, decl ast.Node) {
		ast.Inspect(decl, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			if v, ok := p.Info.Defs[id].(*types.Var); ok && isNamed(v.Type(), "sync", "Mutex", "RWMutex") {
				found = append(found, entry{name: owner + "." + id.Name})
			}
			return true
		})
	})
	return found
}

// beginners lists functions and methods that start a goroutine for their
// argument: those of flight.Tasks and sync.WaitGroup, of context and time, and
// of singleflight.
var beginners = []string{"Go", "AfterFunc", "DoChan"}

// goroutinesOf returns the functions that start goroutines, by a go statement
// or by one of beginners.
func goroutinesOf(p *shape.Package) []entry {
	var found []entry
	eachDecl(p, func(owner string, decl ast.Node) {
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				found = append(found, entry{name: owner})
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(beginners, s.Sel.Name) {
					found = append(found, entry{name: owner})
				}
			}
			return true
		})
	})
	return found
}

// eachDecl calls visit for each function, type and variable of the package,
// with its name: "tasks.Go".
func eachDecl(p *shape.Package, visit func(name string, decl ast.Node)) {
	for _, f := range p.Files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				visit(funcName(d), d)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						visit(s.Name.Name, s)
					case *ast.ValueSpec:
						visit(s.Names[0].Name, s)
					}
				}
			}
		}
	}
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	switch generic := t.(type) {
	case *ast.IndexExpr:
		t = generic.X
	case *ast.IndexListExpr:
		t = generic.X
	}
	return types.ExprString(t) + "." + d.Name.Name
}
