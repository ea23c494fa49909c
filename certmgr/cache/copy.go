package cache

import (
	"context"
	"errors"
	"fmt"
)

// Copy copies entries from one cache to another, for example from a [Dir] to the
// store that is to take its place, and returns how many. Entries that the other
// cache has are left alone, so Copy can be repeated after an error, which names the
// entry that it is about. from must be a [Lister], or wrap one; to must be a store
// itself, and not that with the copies of [Layered]. Run it before the other cache
// is used: an entry that somebody puts in the same moment may be overwritten.
func Copy(ctx context.Context, to, from Cache) (copied int, err error) {
	lister, ok := As[Lister](from)
	if !ok {
		return 0, fmt.Errorf("cache: Copy needs a cache that can list its keys (cache.Lister): %w", errors.ErrUnsupported)
	}
	if _, ok := As[*LayeredCache](to); ok {
		return 0, errors.New("cache: Copy to a cache of Layered, whose copies would pass for entries: copy to its remote cache")
	}
	for key, err := range lister.Keys(ctx) {
		if err != nil {
			return copied, err
		}
		if _, err = to.Get(ctx, key); err == nil {
			continue
		}
		if !errors.Is(err, ErrMiss) {
			return copied, failed("copy", key, err)
		}
		data, err := from.Get(ctx, key)
		if errors.Is(err, ErrMiss) {
			continue // deleted meanwhile
		}
		if err == nil {
			err = to.Put(ctx, key, data)
		}
		if err != nil {
			return copied, failed("copy", key, err)
		}
		copied++
	}
	return copied, nil
}
