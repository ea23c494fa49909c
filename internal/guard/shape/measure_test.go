package shape_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

func TestWidths(t *testing.T) {
	p := sources{}.check(t, `package p
type plain struct{ a, b int }
type embedded struct{ plain; c int }
func (embedded) f() {}
func (*embedded) g() {}
type generic[T any] struct{ t T }
func (*generic[T]) f() {}
type number int
func (number) f() {}
`)
	if got, want := fmt.Sprint(p.Widths()), "[{embedded 2 2} {generic 1 1}]"; got != want {
		t.Errorf("Widths() = %s, want %s", got, want)
	}
}

func TestFunctions(t *testing.T) {
	p := sources{}.check(t, `package p
type t struct{}
func (*t) method(a, b int, _ string, c ...bool) {}
func function() { _ = func(int, int) {} }
`)
	var got string
	for _, f := range p.Functions() {
		got += fmt.Sprintln(f.Name, f.Params, f.Pos.Line)
	}
	if want := "(*example.org/p.t).method 4 3\nexample.org/p.function 0 4\n"; got != want {
		t.Errorf("Functions() are\n%s, want\n%s", got, want)
	}
}

func TestFlags(t *testing.T) {
	s := sources{}
	low := s.check(t, `package low
type T struct{ Hook func(loud bool) }
func (*T) Set(on bool) {}
func Open(name string, force, _ bool) {}
func Map[E any](e E, strict bool) {}
func Sure(bool) {}
func Any(x any, xs ...bool) {}
`)
	high := s.check(t, `package high
import "example.org/low"
type flag bool
func typed(f flag) {}
func uncalled(b bool) {}
type asker interface{ Ask(loudly bool) }
func f(t *low.T, ask asker, b bool) {
	t.Set(true)
	t.Set(false)
	low.Open("x", b, true)
	low.Map[int](1, (false))
	low.Sure(b)
	low.Any(true, true)
	typed(true)
	ask.Ask(true)
	t.Hook(false)
	local := func(quick bool) {}
	local(true)
	_ = flag(true)
	func(now bool) {}(true)
	true := b
	uncalled(true)
}
`)
	var got string
	for _, f := range shape.Flags([]*shape.Package{low, high}) {
		got += fmt.Sprintln(f.Func, f.Param, f.Call.Line)
	}
	want := `(*example.org/low.T).Set on 8
(example.org/high.asker).Ask loudly 15
example.org/high.local quick 18
example.org/high.typed f 14
example.org/low.Hook loud 16
example.org/low.Map strict 11
example.org/low.Open _ 10
`
	if got != want {
		t.Errorf("Flags are\n%s, want\n%s", got, want)
	}
	if flags := shape.Flags([]*shape.Package{low}); len(flags) != 0 {
		t.Errorf("Flags without the package that calls are %v", flags)
	}
}

func TestCrowdedLiterals(t *testing.T) {
	const declarations = "package p\ntype s struct{ a, b, c int; f func() }\n"
	for _, test := range []struct {
		name, source string
		want         string
	}{
		{"in a line", "var x = s{a: 1, b: 2, c: 3}", "[{s 3 source.go:3:9}]"},
		{"few in a line", "var x = s{a: 1, b: 2}", "[]"},
		{"one a line", "var x = s{\n\ta: 1,\n\tb: 2,\n\tc: 3,\n}", "[]"},
		{"two a line", "var x = s{\n\ta: 1,\n\tb: 2, c: 3,\n}", "[{s 3 source.go:3:9}]"},
		{"one beside the brace", "var x = s{a: 1,\n\tb: 2,\n\tc: 3,\n}", "[{s 3 source.go:3:9}]"},
		{"one before the brace", "var x = s{\n\ta: 1,\n\tb: 2,\n\tc: 3}", "[{s 3 source.go:3:9}]"},
		{"one after a function", "var x = s{\n\ta: 1,\n\tf: func() {\n\t}, b: 2,\n}", "[{s 3 source.go:3:9}]"},
		{"without names", "var x = s{1, 2, 3, nil}", "[]"},
		{"a map", "var x = map[string]int{`a`: 1, `b`: 2, `c`: 3}", "[]"},
		{"of a type that is left out", "var x = []*s{{a: 1, b: 2, c: 3}}", "[{*s 3 source.go:3:14}]"},
		{"within another", "var x = []s{\n\t{\n\t\ta: 1,\n\t\tf: func() { _ = s{a: 1, b: 2, c: 3} },\n\t},\n}", "[{s 3 source.go:6:19}]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := sources{}.check(t, declarations+test.source+"\n")
			if got := fmt.Sprint(p.CrowdedLiterals(2)); got != test.want {
				t.Errorf("CrowdedLiterals(2) = %s, want %s", got, test.want)
			}
		})
	}
}

// Load loads real packages, and LoadWithTests includes their tests.
func TestLoad(t *testing.T) {
	packages, err := shape.Load(t.Context(), ".", ".", "../structure")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) != 2 || packages[0].Types.Name() != "shape" || packages[1].Types.Name() != "main" {
		t.Fatalf("Load returned %v", packages)
	}
	tested, err := shape.LoadWithTests(t.Context(), ".", packages[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if using, others := tested.WhiteBoxTests(); len(using)+len(others) != 0 {
		t.Errorf("WhiteBoxTests() = %q, %q: the tests of this package are all outside of it", using, others)
	}
	if files, err := filepath.Glob("*_test.go"); err != nil || tested.External != len(files) {
		t.Errorf("External = %d, want %d (%v)", tested.External, len(files), err)
	}
	if lines := tested.Lines(); lines != packages[0].Lines() {
		t.Errorf("with tests the package has %d lines, without %d", lines, packages[0].Lines())
	}
	if _, err := shape.Load(t.Context(), ".", "./missing"); err == nil {
		t.Error("Load of a package that does not exist is no error")
	}
}
