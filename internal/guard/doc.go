// Package guard contains only tests. They enforce the project's rules on its
// structure: which modules the core module depends on, which package may import
// which (layers, in imports_test.go), the length and format of files, the width
// of structs and functions, no cycles of types; that docs/architecture.md, with
// its picture and tables, matches the code; and that the tests which documents
// name exist. Each test says what to do when it fails. Exceptions that predate a
// rule are on a list that can only shrink.
package guard
