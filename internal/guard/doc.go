// Package guard holds nothing but tests. They keep the promises that the
// project makes about its structure: which modules the core module depends on,
// which package may import which (layers, in imports_test.go), how long files are
// and how they are formatted, that types do not lead to each other in circles, and
// how wide structs and functions are; that each test can fail, and that the list of
// invariants names tests that exist; and that docs/architecture.md, its picture and
// its tables are what the code says. Each test says in its message what to do
// when it fails. What breaks a rule from before there was one is on a list that can
// only shrink.
package guard
