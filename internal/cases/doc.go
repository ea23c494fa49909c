// Package cases tests certmgr with faults that others met: public bug reports
// about ACME clients, servers and CAs (case names begin with B and a number),
// and findings of hostile reviews (H and a number).
//
// Most cases pass. The others are in the table of known failures, in known.go:
// such a case is skipped with its reason when it fails, and fails when it
// passes, so that its line must be removed. The table never grows.
//
// Cases that need a package's unexported parts, or their own module, are in the
// tests of that package and use the same table.
package cases
