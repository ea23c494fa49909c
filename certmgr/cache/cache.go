// Package cache holds what certmgr keeps between runs: certificates with
// their keys, the key of the ACME account, challenge answers that another
// machine may have to give, and records of failures.
//
// The layout is that of golang.org/x/crypto/acme/autocert: the same keys, the
// same bytes. A directory that autocert wrote can be opened with [Dir], one
// that [Dir] wrote can be given back to autocert, and any autocert.Cache is a
// [Cache] without a line of adapter code, and the other way round.
//
// [Dir] is the cache for one machine, or for several that share a file
// system. [Memory] forgets everything when the process ends and is meant for
// tests. To keep entries elsewhere, implement [Cache] and run the suite in
// package cachetest over it.
package cache

import (
	"context"

	"golang.org/x/crypto/acme/autocert"
)

// ErrMiss is what Get answers when the cache has no entry for the key. It is
// the same value as autocert.ErrCacheMiss, so that a cache written for
// autocert works with certmgr and a cache of this package works with
// autocert. Test for it with errors.Is, since a cache may wrap it.
//
// Only the certain absence of an entry is a miss. A miss leads to an order at
// the CA, or to a new account, while any other error leads to neither: a
// cache that reports an outage as a miss burns rate limits.
var ErrMiss = autocert.ErrCacheMiss

// Cache stores small opaque values, a few kilobytes as a rule, under keys. Its
// method set is that of autocert.Cache, so the two are interchangeable.
//
// Keys are printable ASCII: a host name, an http-01 token or a fixed word, in
// most cases followed by a suffix such as "+rsa" or "+token". They hold only
// letters, digits and the characters '+', '.', '_' and '-'. Beyond that an
// implementation must not read a meaning into a key, and must keep any two
// keys apart: "example.com" and "example.com+rsa" are two entries, and case
// matters, since tokens are base64url.
//
// Values hold private keys. An implementation keeps them from other users and
// never puts them into an error or a log.
//
// Errors:
//   - a key without an entry is [ErrMiss] or an error that wraps it, and
//     nothing else is: neither a time-out, nor a context that ended, nor an
//     entry that cannot be decoded;
//   - any other error says what failed and keeps its cause for errors.Is.
//
// Context: every method honours ctx and returns soon after it ends, with an
// error that is not a miss, even when the storage behind it hangs.
//
// All methods are safe for concurrent use by several goroutines.
type Cache interface {
	// Get returns the value that was last put under key. An empty value is
	// an entry like any other. The slice belongs to the caller, who may
	// change it.
	Get(ctx context.Context, key string) ([]byte, error)

	// Put stores data under key in place of what was there. It is atomic:
	// whoever reads meanwhile, or after a crash, gets the whole of the old
	// value or the whole of the new one, and when ctx has ended beforehand
	// the old value stays. The cache keeps no reference to data after Put
	// has returned, whatever it returned.
	Put(ctx context.Context, key string, data []byte) error

	// Delete removes the entry of key. That there is none is not an error.
	Delete(ctx context.Context, key string) error
}

// A Cache can be handed to autocert as it is, and an autocert.Cache taken.
var (
	_ autocert.Cache = Cache(nil)
	_ Cache          = autocert.Cache(nil)
)
