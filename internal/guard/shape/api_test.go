package shape_test

import (
	"strings"
	"testing"
)

func TestAPI(t *testing.T) {
	for _, test := range []struct {
		name, source string
		want         []string
	}{
		{
			name:   "constants with type and value, variables",
			source: "type N int; const A N = 1; const B = `b`; const c = 1; var V []N; var w int",
			want:   []string{"const A N = 1", `const B untyped string = "b"`, "type N int", "var V []N"},
		},
		{
			name:   "functions without the names of parameters",
			source: "func F(a, b int, c ...string) (n int, err error) { return }; func G(f func(x int) (y int)) func(z int) { return nil }; func h() {}",
			want:   []string{"func F(int, int, ...string) (int, error)", "func G(func(int) int) func(int)"},
		},
		{
			name:   "functions within other types",
			source: "func F(m map[string]func(a int), s []func(b int), p *func(c int), ch <-chan func(d int), a [2]func(e int)) {}",
			want:   []string{"func F(map[string]func(int), []func(int), *func(int), <-chan func(int), [2]func(int))"},
		},
		{
			name:   "generic functions and types",
			source: "type T[K comparable, V any] struct{ M map[K]V }; func (T[K, V]) Get(k K) (v V) { return }; func F[E ~int | string](e E) {}",
			want: []string{
				"func F[E ~int | string](E)",
				"method (T) Get(K) V",
				"type T[K comparable, V any] struct",
				"type T[K comparable, V any] struct, M map[K]V",
			},
		},
		{
			name:   "fields and methods of structs",
			source: "type T struct{ A, b int; C func(name string) }; func (T) V() {}; func (*T) P() {}; func (T) q() {}; type u struct{ A int }",
			want: []string{
				"method (*T) P()",
				"method (T) V()",
				"type T struct",
				"type T struct, A int",
				"type T struct, C func(string)",
			},
		},
		{
			name:   "what embedded types bring along",
			source: "type Base struct{ A int }; func (Base) M() {}; type inner struct{ B int }; func (*inner) N() {}; type T struct{ Base; *inner }",
			want: []string{
				"method (Base) M()",
				"method (T) M()",
				"method (T) N()",
				"type Base struct",
				"type Base struct, A int",
				"type T struct",
				"type T struct, B int",
				"type T struct, embeds Base",
			},
		},
		{
			name:   "interfaces",
			source: "type R interface{ Read(p []byte) error }; type S interface{ R; Close(); seal() }; type C interface{ ~int | ~string }",
			want: []string{
				"type C interface",
				"type C interface, ~int | ~string",
				"type R interface",
				"type R interface, Read([]byte) error",
				"type S interface",
				"type S interface, Close()",
				"type S interface, Read([]byte) error",
				"type S interface, has methods that only the package can implement",
			},
		},
		{
			name:   "aliases, and packages by their names",
			source: "type A = dep.Type; type B = []dep.Type; func F(a A, t dep.Type) {}",
			want:   []string{"func F(A, dep.Type)", "type A = dep.Type", "type B = []dep.Type"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sources{}
			imports := ""
			if strings.Contains(test.source, "dep.") {
				s.check(t, "package dep; type Type struct{ Hidden int }")
				imports = `import "example.org/dep"; `
			}
			got := strings.Join(s.check(t, "package p; "+imports+test.source).API(), "\n")
			if want := strings.Join(test.want, "\n"); got != want {
				t.Errorf("API() is\n%s\nwant\n%s", got, want)
			}
		})
	}
}
