package certmgr_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
)

// Types that have to be the same and not merely alike: only pointers to
// identical types can be assigned.
var (
	_ *certmgr.HostPolicy  = (*autocert.HostPolicy)(nil)
	_ *autocert.HostPolicy = (*certmgr.HostPolicy)(nil)
	_ autocert.Cache       = certmgr.Cache(nil)
	_ certmgr.Cache        = autocert.Cache(nil)
	_ autocert.Cache       = certmgr.DirCache("")
	_ certmgr.Cache        = autocert.DirCache("")
)

func TestErrCacheMissIsAutocerts(t *testing.T) {
	if certmgr.ErrCacheMiss != autocert.ErrCacheMiss {
		t.Error("ErrCacheMiss is another value than autocert's: caches that return one would not work with the other")
	}
}

// TestAPIIsAutocerts compares the exported API of both packages as the compiler
// sees it, so that what a new version of autocert gains is noticed here.
func TestAPIIsAutocerts(t *testing.T) {
	const ours, theirs = "github.com/nostall/nostall/certmgr", "golang.org/x/crypto/acme/autocert"
	pkgs := importCompiled(t, ours, theirs)
	for _, d := range apiDifferences(pkgs[theirs], pkgs[ours]) {
		t.Error(d)
	}
}

// importCompiled returns packages from the compiler's export data.
func importCompiled(t *testing.T, paths ...string) map[string]*types.Package {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, paths...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = file
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	pkgs := make(map[string]*types.Package)
	for _, path := range paths {
		if pkgs[path], err = imp.Import(path); err != nil {
			t.Fatal(err)
		}
	}
	return pkgs
}

// apiDifferences returns what have lacks, or has otherwise, of want's exported
// API. Types of the two packages count as the same if they have the same name:
// each pair is compared itself.
func apiDifferences(want, have *types.Package) []string {
	c := &apiComparer{want: want, have: have}
	for _, name := range want.Scope().Names() {
		if !token.IsExported(name) {
			continue
		}
		w, h := want.Scope().Lookup(name), have.Scope().Lookup(name)
		if h == nil {
			c.differ("%s is missing", name)
			continue
		}
		c.object(name, w, h)
	}
	return c.found
}

type apiComparer struct {
	want, have *types.Package
	found      []string
}

func (c *apiComparer) differ(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// text returns a type as it is written, without names of parameters and with
// full paths for the packages that are not compared.
func (c *apiComparer) text(t types.Type) string {
	return types.TypeString(nameless(t), func(p *types.Package) string {
		if p == c.want || p == c.have {
			return ""
		}
		return p.Path()
	})
}

// nameless returns t without the names of parameters, which are no part of an
// API: a program cannot depend on them.
func nameless(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Pointer:
		return types.NewPointer(nameless(t.Elem()))
	case *types.Slice:
		return types.NewSlice(nameless(t.Elem()))
	case *types.Array:
		return types.NewArray(nameless(t.Elem()), t.Len())
	case *types.Map:
		return types.NewMap(nameless(t.Key()), nameless(t.Elem()))
	case *types.Chan:
		return types.NewChan(t.Dir(), nameless(t.Elem()))
	case *types.Signature:
		return types.NewSignatureType(nil, nil, nil, namelessTuple(t.Params()), namelessTuple(t.Results()), t.Variadic())
	case *types.Interface:
		var methods []*types.Func
		for m := range t.Methods() {
			methods = append(methods, types.NewFunc(token.NoPos, m.Pkg(), m.Name(), nameless(m.Type()).(*types.Signature)))
		}
		return types.NewInterfaceType(methods, nil).Complete()
	}
	return t
}

func namelessTuple(tuple *types.Tuple) *types.Tuple {
	var vars []*types.Var
	for v := range tuple.Variables() {
		vars = append(vars, types.NewParam(token.NoPos, v.Pkg(), "", nameless(v.Type())))
	}
	return types.NewTuple(vars...)
}

func (c *apiComparer) same(what string, want, have types.Type) {
	if w, h := c.text(want), c.text(have); w != h {
		c.differ("%s is %s, want %s", what, h, w)
	}
}

func (c *apiComparer) object(name string, want, have types.Object) {
	if w, h := fmt.Sprintf("%T", want), fmt.Sprintf("%T", have); w != h {
		c.differ("%s is a %s, want a %s", name, h, w)
		return
	}
	switch want := want.(type) {
	case *types.TypeName:
		c.typeName(name, want, have.(*types.TypeName))
		return
	case *types.Const:
		if h := have.(*types.Const); !constant.Compare(want.Val(), token.EQL, h.Val()) {
			c.differ("%s has the value %s, want %s", name, h.Val(), want.Val())
		}
	}
	c.same(name, want.Type(), have.Type())
}

func (c *apiComparer) typeName(name string, want, have *types.TypeName) {
	if w, ok := want.Type().Underlying().(*types.Struct); ok {
		h, ok := have.Type().Underlying().(*types.Struct)
		if !ok {
			c.differ("%s is no struct", name)
			return
		}
		c.fields(name, w, h)
	} else {
		c.same(name, want.Type().Underlying(), have.Type().Underlying())
	}
	if types.IsInterface(want.Type()) {
		return // its methods are its type
	}
	c.methods(name, want.Type(), have.Type())
	c.methods("*"+name, types.NewPointer(want.Type()), types.NewPointer(have.Type()))
}

func (c *apiComparer) fields(name string, want, have *types.Struct) {
	fields := make(map[string]*types.Var)
	for f := range have.Fields() {
		fields[f.Name()] = f
	}
	for w := range want.Fields() {
		if !w.Exported() {
			continue
		}
		h := fields[w.Name()]
		if h == nil || h.Embedded() != w.Embedded() {
			c.differ("field %s.%s is missing", name, w.Name())
			continue
		}
		c.same("field "+name+"."+w.Name(), w.Type(), h.Type())
	}
}

func (c *apiComparer) methods(name string, want, have types.Type) {
	set := types.NewMethodSet(have)
	for w := range types.NewMethodSet(want).Methods() {
		if !w.Obj().Exported() {
			continue
		}
		h := set.Lookup(c.have, w.Obj().Name())
		if h == nil {
			c.differ("method (%s).%s is missing", name, w.Obj().Name())
			continue
		}
		c.same("method ("+name+")."+w.Obj().Name(), w.Type(), h.Type())
	}
}

// TestAPIComparisonBites shows that each kind of difference is found.
func TestAPIComparisonBites(t *testing.T) {
	const base = "type M struct { A int; B *M }; func (m *M) Do(n int) error { return nil }; " +
		"type I interface { F(m *M) }; type D string; func (d D) F(m *M) {}; func New(d D) *M { return nil }; " +
		"const C = \"c\"; var V error; "
	tests := []struct{ name, theirs, ours, want string }{
		{"nothing differs", base, base, ""},
		{"what only we have is fine", base, base + "func More() {}; type N struct{ M }", ""},
		{"other names of parameters", base, strings.ReplaceAll(base, "m *M)", "x *M)"), ""},
		{"an alias of our own", base, strings.Replace(base, "type I interface { F(m *M) }", "type J interface { F(m *M) }; type I = J", 1), ""},
		{"autocert gains a function", base + "func More() {}", base, "More is missing"},
		{"autocert gains a constant", base + "const More = 1", base, "More is missing"},
		{"autocert gains a variable", base + "var More int", base, "More is missing"},
		{"autocert gains a type", base + "type More int", base, "More is missing"},
		{"autocert gains a method", base + "func (m *M) More() {}", base, "method (*M).More is missing"},
		{"autocert gains a field", strings.Replace(base, "A int;", "A int; More int;", 1), base, "field M.More is missing"},
		{"autocert's interface gains a method", strings.Replace(base, "F(m *M) }", "F(m *M); G() }", 1), base, "I is interface{F(*M)}"},
		{"a value method became a pointer's", base, strings.Replace(base, "(d D)", "(d *D)", 1), "method (D).F is missing"},
		{"another signature", base, strings.Replace(base, "Do(n int)", "Do(n int64)", 1), "method (*M).Do is func(int64) error"},
		{"another result", base, strings.Replace(base, "New(d D) *M", "New(d D) *D", 1), "New is func(D) *D"},
		{"another value", base, strings.Replace(base, `C = "c"`, `C = "d"`, 1), `C has the value "d", want "c"`},
		{"another kind", base, strings.Replace(base, `const C = "c"`, `var C = "c"`, 1), "C is a *types.Var"},
		{"another type of a field", base, strings.Replace(base, "B *M", "B M2", 1) + "type M2 int", "field M.B is M2, want *M"},
		{"another underlying type", base, strings.Replace(base, "type D string", "type D int", 1), "D is int, want string"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := strings.Join(apiDifferences(checkSource(t, "theirs", test.theirs), checkSource(t, "ours", test.ours)), "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

// checkSource returns a package of that source.
func checkSource(t *testing.T, path, src string) *types.Package {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path+".go", "package p; "+src, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := new(types.Config).Check(path, fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}
