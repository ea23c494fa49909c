// Package cache stores what certmgr keeps between runs: certificates with their
// keys, the key of the ACME account, challenge responses that another machine
// may have to serve, and records of failures.
//
// The layout is that of golang.org/x/crypto/acme/autocert: the same keys, the
// same bytes. [Dir] opens a directory that autocert wrote, and autocert opens
// one that [Dir] wrote. Any autocert.Cache is a [Cache] and the other way
// round, without adapter code.
//
// [Dir] is the cache for one machine, or for several that share a file system.
// Its locks are between the processes of one machine.
// [Memory] forgets everything when the process ends and is meant for tests.
// [Encrypted] encrypts what any other cache stores. To keep entries elsewhere,
// implement [Cache], and [Locker] if several machines share them, and test it
// with the suite in package cachetest. What else a cache can do has small
// interfaces of its own: [Lister], [BatchGetter] and [Watcher].
package cache

import (
	"context"

	"golang.org/x/crypto/acme/autocert"
)

// ErrMiss is the error of Get when the cache has no entry for the key. It is
// the same value as autocert.ErrCacheMiss, so caches written for autocert work
// with certmgr, and caches of this package work with autocert. Test for it with
// errors.Is, since a cache may wrap it.
//
// Return it only if the entry certainly does not exist. A miss leads to an
// order at the CA, or to a new account; any other error leads to neither. A
// cache that reports an outage as a miss uses up rate limits.
var ErrMiss = autocert.ErrCacheMiss

// Cache stores small opaque values, usually a few kilobytes, under keys. Its
// method set is that of autocert.Cache, so the two are interchangeable.
//
// Keys are printable ASCII: a host name, an http-01 token or a fixed word,
// usually followed by a suffix such as "+rsa" or "+token". They hold only
// letters, digits and the characters '+', '.', '_' and '-'. An implementation
// must not interpret a key further, and must keep any two keys apart:
// "example.com" and "example.com+rsa" are two entries, and case matters, since
// tokens are base64url.
//
// Values hold private keys. An implementation protects them from other users
// and never puts them into an error or a log.
//
// Errors:
//   - a key without an entry is [ErrMiss] or an error that wraps it. Nothing else
//     is a miss: not a time-out, not a context that ended, not an entry that
//     cannot be decoded;
//   - any other error says what failed and wraps its cause for errors.Is. That
//     includes the storage's own error for an entry that does not exist
//     (fs.ErrNotExist, sql.ErrNoRows, redis.Nil): replace it by [ErrMiss].
//
// certmgr copes with some caches that break these rules. Neither a value nor an
// error is a miss, and an event says so. A Delete that fails is no failure if
// the key has no entry. Entries that autocert does not know are not needed: a
// cache may refuse their keys, at the cost of what they hold.
//
// Context: every method honours ctx and returns soon after it ends, with an
// error that is not a miss, even if the storage behind it hangs.
//
// All methods are safe for concurrent use by several goroutines.
type Cache interface {
	// Get returns the value last put under key. An empty value is an entry like
	// any other, and not nil. The slice belongs to the caller, who may change it.
	Get(ctx context.Context, key string) ([]byte, error)

	// Put stores data under key and replaces any existing value. It is atomic:
	// a concurrent reader, or one after a crash, gets either the whole old
	// value or the whole new one. If ctx has already ended, the old value
	// stays. The cache keeps no reference to data after Put has returned, even
	// with an error.
	Put(ctx context.Context, key string, data []byte) error

	// Delete removes the entry of key. Deleting a missing entry is not an
	// error.
	Delete(ctx context.Context, key string) error
}

// A Cache can be passed to autocert unchanged, and an autocert.Cache to
// certmgr.
var (
	_ autocert.Cache = Cache(nil)
	_ Cache          = autocert.Cache(nil)
)
