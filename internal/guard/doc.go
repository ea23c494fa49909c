// Package guard holds nothing but tests. They keep the promises that the
// project makes about its structure: which modules the core module depends on,
// which package may import which, and how source files are formatted. Each
// test says in its message what to do when it fails.
package guard
