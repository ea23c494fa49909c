// Package cases holds what other people met: faults from public bug reports
// about ACME clients, servers and CAs (their names begin with B and a number),
// and findings of hostile reviews (H and a number), each tried on certmgr.
//
// Most cases pass. A case that does not is in the table of known failures, in
// known.go: it is skipped with its reason when it fails, and the test fails when
// it passes, so that its line has to go. The table never grows.
//
// Cases that need a package's insides, or a module of their own, are in the
// tests of that package and use the same table.
package cases
