package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// LayeredCache is a [Cache] in a store with local copies; see [Layered]. It is
// safe for concurrent use.
type LayeredCache struct {
	remote  Cache
	circuit circuit
	copies  copies
	review  review

	following chan struct{} // holds a value while a loop of Follow runs
}

var (
	_ Cache       = (*LayeredCache)(nil)
	_ Wrapper     = (*LayeredCache)(nil)
	_ BatchGetter = (*LayeredCache)(nil)
	_ Follower    = (*LayeredCache)(nil)
)

// Layered returns a [Cache] that keeps its entries in remote, a store that
// machines share, and copies of some of them in local, usually a [Dir] of this
// machine alone. While the store is down, a machine serves from its copies what
// it has served before, even if it starts then.
//
// Copies are of certificates and of the account's key. Records, unfinished orders
// and answers to challenges have none, since other machines change them: they are
// of no use while the store is down. certmgr orders nothing then if the store is a
// [Locker]. Otherwise it renews what is due.
//
// Get asks the store, for at most 2 seconds. What it answers holds:
//   - a value is returned, and replaces the copy in the background if that is
//     another one;
//   - a miss is a miss: the copy is deleted;
//   - if the read fails otherwise, the copy is returned, and without one the
//     store's error.
//
// Two kinds of reads do wait for a store that is slow or down, as long as the caller
// does. Those under a lease (see [Guard]) get no copy: whoever has a lock needs to
// know what the store has. And a CA asks for the answer to a challenge once only.
//
// After three failures in a row that are not about single entries, or one time-out,
// the store counts as down: it is asked once every 5 seconds, and reads do not wait
// for it. When it answers again,
// all entries of which copies were returned meanwhile are read there once more.
// Follow tells which of them are gone or others, and a certmgr.Manager follows:
// within a minute it serves the newer certificates, and no longer serves those
// whose entries are gone, for example because another machine revoked them.
//
// Put and Delete change the store first, under the caller's context with its lease
// (see [Guard]). If Put fails, the copy stays as it was. Once the store has the
// value, Put succeeds even if the copy cannot be written, because the disk is full
// for example: [News] says so, and the copy stays outdated. Delete deletes the copy
// whatever the store says, and fails if that fails. A crash in between leaves an
// outdated copy, until the store is next asked.
//
// Do not share local with other machines, and do not use it for anything else: an
// entry that the store does not have is deleted there. There is one exception. If
// the copies have the account's key and the store does not, it is a new one, or was
// emptied, and nobody may want to order all certificates again: it counts as down
// then, and the error says so. To move from a Dir to a store, fill the store with
// [Copy] before it is used.
//
// A store with private keys may be encrypted on either side of the layers.
// Layered(dir, encrypted store) has plain copies, which are files that only the
// user of the process can read. Encrypted on the outside, around Layered(dir,
// store), encrypts the copies too, with the same keys.
//
// The abilities of the store ([Locker], [Lister], [Watcher]) are those of the
// LayeredCache. It starts no goroutine but for writes of copies, each of which ends
// within 5 seconds; Flush waits for them.
func Layered(local, remote Cache) *LayeredCache {
	l := &LayeredCache{remote: remote, following: make(chan struct{}, 1)}
	wake := make(chan struct{}, 1)
	l.circuit.wake, l.review.wake, l.copies.wake = wake, wake, wake
	l.circuit.probe = l.probe
	l.copies.cache, l.copies.later = local, l.review.add
	return l
}

const (
	// remoteTimeout is the time-out of a read of the store. With a read of the
	// copy it ends before that of certmgr, 5 seconds.
	remoteTimeout = 2 * time.Second

	// localTimeout is the time-out of a read of a copy.
	localTimeout = time.Second
)

// hasCopy reports whether entries of a key have copies. Those of certmgr's are of
// certificates, of the entries that lead to those of groups, and of the account's
// key.
func hasCopy(key string) bool {
	base, suffix, _ := strings.Cut(key, "+")
	switch suffix {
	case "", "rsa", "group", "rsa+group", "group+cert", "group+rsa+cert":
		return true
	case "key":
		return base == "acme_account"
	}
	return false
}

// Unwrap returns the remote cache.
func (l *LayeredCache) Unwrap() Cache { return l.remote }

// Get returns the value of key in the store or, while that is down, its copy.
func (l *LayeredCache) Get(ctx context.Context, key string) ([]byte, error) {
	switch {
	case isAnswer(key):
		return l.remote.Get(ctx, key)
	case !hasCopy(key):
		return l.ask(ctx, key)
	}
	version := l.copies.begin(key)
	defer l.copies.end(key)
	ask := l.ask
	if Guarded(ctx) != nil {
		ask = l.remote.Get
	}
	data, err := ask(ctx, key)
	switch {
	case err == nil:
		if data != nil {
			l.copies.set(key, version, data)
		}
		return data, nil
	case errors.Is(err, ErrMiss):
		return l.gone(ctx, key, version, err)
	case ctx.Err() != nil, Guarded(ctx) != nil:
		return nil, err
	}
	return l.copyOf(ctx, key, err)
}

// isAnswer reports whether a key is of the answer to a challenge, for tls-alpn-01
// or http-01.
func isAnswer(key string) bool {
	_, suffix, _ := strings.Cut(key, "+")
	return suffix == "token" || suffix == "http-01"
}

// ask reads an entry in the store.
func (l *LayeredCache) ask(ctx context.Context, key string) ([]byte, error) {
	return ask(ctx, &l.circuit, remoteTimeout, func(ctx context.Context) ([]byte, error) { return l.remote.Get(ctx, key) })
}

// copyOf returns the copy of an entry that could not be read.
func (l *LayeredCache) copyOf(ctx context.Context, key string, why error) ([]byte, error) {
	data, err := l.copies.get(ctx, key)
	switch {
	case err == nil:
		l.review.returned(key, data)
		return data, nil
	case errors.Is(err, ErrMiss):
		return nil, why
	}
	return nil, fmt.Errorf("%w; its local copy: %w", why, err)
}

// gone is the end of a Get that found no entry.
func (l *LayeredCache) gone(ctx context.Context, key string, version int, miss error) ([]byte, error) {
	if _, err := l.copies.get(ctx, key); errors.Is(err, ErrMiss) {
		if l.copies.isPlanned(key) { // it could not be deleted, perhaps
			l.copies.delete(key, version)
		}
		return nil, miss
	}
	if err := l.verify(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		l.circuit.open(err)
		if Guarded(ctx) != nil {
			return nil, err
		}
		return l.copyOf(ctx, key, err)
	}
	l.copies.delete(key, version)
	return nil, miss
}

// errOtherStore is the error of a store that is not the one which the copies are
// of.
var errOtherStore = errors.New("the remote cache has no account key, but the local copies have one: it is new, or was emptied; " +
	"the copies are used in its place: fill it with cache.Copy, or delete the local copies")

// verify returns an error unless the store, which lacks an entry that has a copy,
// may be the one that the copy is of.
func (l *LayeredCache) verify(ctx context.Context) error {
	in, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	accountKeys := []string{"acme_account+key", "acme_account.key"}
	for _, key := range accountKeys {
		if _, err := l.remote.Get(in, key); err == nil {
			return nil
		} else if !errors.Is(err, ErrMiss) {
			return err
		}
	}
	for _, key := range accountKeys {
		if _, err := l.copies.get(ctx, key); err == nil {
			return errOtherStore
		}
	}
	return nil
}

// Put stores data under key in the store, and then in the copy.
func (l *LayeredCache) Put(ctx context.Context, key string, data []byte) error {
	if !hasCopy(key) {
		return l.remote.Put(ctx, key, data)
	}
	l.copies.begin(key)
	defer l.copies.end(key)
	l.copies.changed(key)
	err := l.remote.Put(ctx, key, data)
	version := l.copies.changed(key)
	if err != nil {
		l.review.add(key) // the store may have the value all the same
		return err
	}
	l.copies.set(key, version, data)
	return nil
}

// Delete deletes the entry of key in the store, and its copy.
func (l *LayeredCache) Delete(ctx context.Context, key string) error {
	if !hasCopy(key) {
		return l.remote.Delete(ctx, key)
	}
	l.copies.begin(key)
	defer l.copies.end(key)
	l.copies.changed(key)
	err := l.remote.Delete(ctx, key)
	if err != nil {
		l.review.add(key)
	}
	deleted := l.copies.delete(key, l.copies.changed(key))
	if local := deleted.wait(ctx); local != nil && err == nil {
		return failed("delete the local copy of", key, local)
	}
	return err
}

// Flush waits until the copies of all that was read and put before are written, or
// could not be. A certmgr.Manager calls it when it is closed.
func (l *LayeredCache) Flush(ctx context.Context) error { return l.copies.flush(ctx) }

// Clean has both caches remove what killed processes left behind, as
// [Dir.Clean] does, if they can.
func (l *LayeredCache) Clean(ctx context.Context) error {
	type cleaner interface{ Clean(context.Context) error }
	var errs []error
	for _, c := range []Cache{l.copies.cache, l.remote} {
		if c, ok := As[cleaner](c); ok {
			errs = append(errs, c.Clean(ctx))
		}
	}
	return errors.Join(errs...)
}
