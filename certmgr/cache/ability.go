package cache

import (
	"context"
	"errors"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Lister is the ability of a [Cache] to list its keys. Find it with [As], since
// the cache may be wrapped.
type Lister interface {
	// Keys returns the keys of all entries, in no particular order, and ends with
	// an error if they cannot all be listed, or ctx has ended. An entry that is
	// put or deleted meanwhile may be missing or not. The iterator may be used
	// once only. Entries may be put and deleted in the loop.
	Keys(ctx context.Context) iter.Seq2[string, error]
}

// BatchGetter is the ability of a [Cache] to read many entries in few requests.
// Call [GetMany], which works with any cache. A wrapper that changes values has
// this method itself, or is read entry by entry.
type BatchGetter interface {
	// GetMany returns the values of those keys that have an entry. An error says
	// that the result is not complete; the values that were read come with it.
	GetMany(ctx context.Context, keys []string) (map[string][]byte, error)
}

// Watcher is the ability of a [Cache] to tell of a change at once. Find it with
// [As]. Without it, changes are found by polling.
type Watcher interface {
	// Watch returns a channel that receives after the entry of key was put or
	// deleted by any machine, once for several changes in a row. It is closed
	// when ctx ends, or when changes may have been missed: look at the entry then,
	// and watch it again.
	Watch(ctx context.Context, key string) (<-chan struct{}, error)
}

// Follower is the ability of a [Cache] that returns copies while its store is
// down, such as that of [Layered], to tell later which of them were outdated. Find
// it with [As]. A certmgr.Manager follows its Cache.
type Follower interface {
	// Follow yields what there is to tell, and ends with ctx. It asks the store
	// itself, in the loop. A second loop waits for the end of the first one.
	Follow(ctx context.Context) iter.Seq[News]
}

// News is what a [Follower] tells. Fields that are not set tell nothing.
type News struct {
	Down error // the store is down: copies are returned from now on
	Up   bool  // the store answers again, and all copies were compared that were returned meanwhile

	Changed []string // keys of entries of which an outdated copy was returned
	Gone    []string // keys of entries of which a copy was returned, and that the store does not have

	Copies error // a copy could not be written or deleted
}

// Wrapper is a [Cache] that adds something to another one, such as counting or
// encryption, and has its keys. If a wrapper changes keys, by a prefix for
// example, it must not have this method: the abilities of the other cache would
// be used with keys that it does not know.
type Wrapper interface {
	Cache

	// Unwrap returns the cache within. It is always the same one.
	Unwrap() Cache
}

// maxWrappers is the largest number of caches in each other that [As] looks at:
// a cache that wraps itself must not keep it forever.
const maxWrappers = 64

// As returns c as a T, if it is one, or else the first T of what it wraps. T is
// the interface of an ability, such as [Lister].
func As[T any](c Cache) (t T, ok bool) {
	for range maxWrappers {
		if t, ok = c.(T); ok {
			return t, true
		}
		w, wraps := c.(Wrapper)
		if !wraps {
			break
		}
		c = w.Unwrap()
	}
	return t, false
}

// maxGets is how many entries [GetMany] reads at a time from a cache that reads
// one by one.
const maxGets = 16

// GetMany returns the values of those keys that have an entry, by the cache's
// own [BatchGetter], or by as many calls of Get. It does not look into wrappers,
// which may change values. An error says that the result is not complete; the
// values that were read come with it.
func GetMany(ctx context.Context, c Cache, keys []string) (map[string][]byte, error) {
	if b, ok := c.(BatchGetter); ok {
		return b.GetMany(ctx, keys)
	}
	var (
		mu     sync.Mutex // protects values and failed
		values = make(map[string][]byte, len(keys))
		failed error
	)
	var group errgroup.Group
	group.SetLimit(maxGets)
	for _, key := range keys {
		group.Go(func() error {
			data, err := c.Get(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				values[key] = data
			case !errors.Is(err, ErrMiss) && failed == nil:
				failed = err
			}
			return nil
		})
	}
	group.Wait()
	return values, failed
}
