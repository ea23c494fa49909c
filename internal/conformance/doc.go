// Package conformance is one table of ACME requests, right and wrong, each with
// the verdict that a CA has to give. It runs against certmgr/acmetest, which
// must give exactly these, and against the real Pebble. Where Pebble differs,
// the table says how, by which section of which RFC, and who is right. A
// difference that disappears also fails.
//
// The requests are made by the package's own client, which signs anything that
// a case asks for and takes every URL from the CA. Besides the verdict it
// checks what RFC 8555 requires of all replies: a fresh nonce, a link to the
// directory, a problem document with an error.
//
// The package imports testing, as cachetest does, and is imported by tests
// only.
package conformance
