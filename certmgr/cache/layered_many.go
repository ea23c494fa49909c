package cache

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// batchTimeout is the time-out for reading many entries of the store.
const batchTimeout = 4 * time.Second

// GetMany implements [BatchGetter]: entries that the store does not return because
// it fails are copies, as far as there are any.
func (l *LayeredCache) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	versions := make(map[string]int, len(keys))
	for _, key := range keys {
		if _, twice := versions[key]; !twice && hasCopy(key) {
			versions[key] = l.copies.begin(key)
			defer l.copies.end(key)
		}
	}
	values, err := l.askMany(ctx, keys)
	for key, data := range values {
		if version, ok := versions[key]; ok && data != nil {
			l.copies.set(key, version, data)
		}
	}
	if ctx.Err() != nil {
		return values, err
	}
	copied := l.copiesOf(ctx, versions, values)
	if err == nil && len(copied) > 0 {
		if err = l.verify(ctx); err == nil {
			for key := range copied {
				l.copies.delete(key, versions[key])
			}
			return values, nil
		}
		if ctx.Err() == nil {
			l.circuit.open(err)
		}
	}
	if err == nil || Guarded(ctx) != nil {
		return values, err
	}
	for key, data := range copied {
		l.review.returned(key, data)
		values[key] = data
	}
	for _, key := range keys {
		if _, ok := values[key]; !ok {
			return values, err
		}
	}
	return values, nil
}

// askMany reads entries in the store.
func (l *LayeredCache) askMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	values, err := ask(ctx, &l.circuit, batchTimeout, func(ctx context.Context) (map[string][]byte, error) {
		return GetMany(ctx, l.remote, keys)
	})
	if values == nil {
		values = make(map[string][]byte)
	}
	return values, err
}

// copiesOf returns the copies of those entries that values lacks.
func (l *LayeredCache) copiesOf(ctx context.Context, versions map[string]int, values map[string][]byte) map[string][]byte {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	var (
		mu     sync.Mutex // protects copied
		copied = make(map[string][]byte)
	)
	var group errgroup.Group
	group.SetLimit(maxGets)
	for key := range versions {
		if _, ok := values[key]; ok {
			continue
		}
		group.Go(func() error {
			if data, err := l.copies.get(ctx, key); err == nil {
				mu.Lock()
				defer mu.Unlock()
				copied[key] = data
			}
			return nil
		})
	}
	group.Wait()
	return copied
}
