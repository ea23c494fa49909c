// Package conformance is one table of ACME requests, right and wrong, with the verdict that a CA has to give on each.
// It runs against certmgr/acmetest, which has to give exactly these, and against the real Pebble, which the table
// follows where both keep the rules. Where Pebble differs, the table says how, by which section of which RFC, and who is
// right: a difference that goes away fails as well.
//
// Requests are made by a client of its own that signs whatever a case wants, and that takes every URL from the CA. Besides
// the verdict it checks on every reply what RFC 8555 demands of all of them: a fresh nonce, a link to the directory, a
// problem document with an error.
//
// It imports testing, as cachetest does, and is imported by tests only.
package conformance
