package shape_test

import (
	"fmt"
	"testing"
)

func TestCycles(t *testing.T) {
	for _, test := range []struct {
		name   string
		source string
		groups string // what Cycles returns
		uses   string // what Uses returns for the first group
	}{
		{
			name:   "none in one direction",
			source: "type a struct{ b b }; type b struct{ n int }; func (b) f() {}",
			groups: "[]",
		},
		{
			name:   "none of a type with itself",
			source: "type list struct{ next *list }; func (l *list) f() *list { return l.next }",
			groups: "[]",
		},
		{
			name:   "by fields",
			source: "type a struct{ b *b }; type b struct{ a []a }",
			groups: "[[a b]]",
			uses:   "map[a:[b] b:[a]]",
		},
		{
			name:   "by the parameter of a method",
			source: "type a struct{ b b }; type b struct{}; func (b) f(a) {}",
			groups: "[[a b]]",
			uses:   "map[a:[b] b:[a]]",
		},
		{
			name:   "by the body of a method",
			source: "type a struct{ b *b }; type b struct{}; func (b) f() { var x any = a{}; _ = x }",
			groups: "[[a b]]",
			uses:   "map[a:[b] b:[a]]",
		},
		{
			name: "by a field that the body reads of a value whose type it does not name",
			source: "type a struct{ n int; b *b }; type b struct{}; func get() *a { return nil }; " +
				"func (b) f() int { return get().n }",
			groups: "[[a b]]",
			uses:   "map[a:[b] b:[a]]",
		},
		{
			name:   "of three, one way round",
			source: "type a struct{ b *b }; type b struct{ c *c }; type c struct{ a *a }; type d struct{ a a }",
			groups: "[[a b c]]",
			uses:   "map[a:[b] b:[c] c:[a]]",
		},
		{
			name:   "two of them, the larger one first",
			source: "type a struct{ b *b }; type b struct{ a *a }; type c struct{ d *d }; type d struct{ e *e }; type e struct{ c *c }",
			groups: "[[c d e] [a b]]",
			uses:   "map[c:[d] d:[e] e:[c]]",
		},
		{
			name:   "by methods of generic types",
			source: "type a[T any] struct{ b *b }; func (a[T]) f() {}; type b struct{}; func (b) f(a[int]) {}",
			groups: "[[a b]]",
			uses:   "map[a:[b] b:[a]]",
		},
		{
			name:   "none by an interface between them",
			source: "type a struct{ b *b }; func (a) told() {}; type listener interface{ told() }; type b struct{ l listener }",
			groups: "[]",
		},
		{
			name:   "none by a plain function, which is nobody's",
			source: "type a struct{ b *b }; type b struct{}; func newA(b *b) *a { return &a{b} }",
			groups: "[]",
		},
		{
			name:   "none by a local type of the same name",
			source: "type a struct{ b *b }; type b struct{}; func (b) f() { type a int; var x a; _ = x }",
			groups: "[]",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := sources{}.check(t, "package p; "+test.source)
			groups := p.Cycles()
			if got := fmt.Sprint(groups); got != test.groups {
				t.Fatalf("Cycles() = %s, want %s", got, test.groups)
			}
			if len(groups) == 0 {
				return
			}
			if got := fmt.Sprint(p.Uses(groups[0])); got != test.uses {
				t.Errorf("Uses(%q) = %s, want %s", groups[0], got, test.uses)
			}
		})
	}
}
