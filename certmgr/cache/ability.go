package cache

import (
	"context"
	"iter"
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
