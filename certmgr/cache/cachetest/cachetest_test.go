package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
)

// broken is a cache whose methods can be replaced one by one.
type broken struct {
	cache.Cache
	get    func(ctx context.Context, key string) ([]byte, error)
	put    func(ctx context.Context, key string, data []byte) error
	delete func(ctx context.Context, key string) error
}

func (b *broken) Get(ctx context.Context, key string) ([]byte, error) {
	if b.get != nil {
		return b.get(ctx, key)
	}
	return b.Cache.Get(ctx, key)
}

func (b *broken) Put(ctx context.Context, key string, data []byte) error {
	if b.put != nil {
		return b.put(ctx, key, data)
	}
	return b.Cache.Put(ctx, key, data)
}

func (b *broken) Delete(ctx context.Context, key string) error {
	if b.delete != nil {
		return b.delete(ctx, key)
	}
	return b.Cache.Delete(ctx, key)
}

// byKey returns a cache that is correct except for what it does to keys.
func byKey(change func(string) string) cache.Cache {
	m := new(cache.Memory)
	return &broken{
		get:    func(ctx context.Context, k string) ([]byte, error) { return m.Get(ctx, change(k)) },
		put:    func(ctx context.Context, k string, v []byte) error { return m.Put(ctx, change(k), v) },
		delete: func(ctx context.Context, k string) error { return m.Delete(ctx, change(k)) },
	}
}

// byValue returns a cache that is correct except for what it stores.
func byValue(change func([]byte) []byte) cache.Cache {
	m := new(cache.Memory)
	return &broken{Cache: m, put: func(ctx context.Context, k string, v []byte) error {
		return m.Put(ctx, k, change(v))
	}}
}

// wrapping returns a cache whose Get returns other errors.
func wrapping(change func(error) error) cache.Cache {
	m := new(cache.Memory)
	return &broken{Cache: m, get: func(ctx context.Context, k string) ([]byte, error) {
		v, err := m.Get(ctx, k)
		if err != nil {
			return nil, change(err)
		}
		return v, nil
	}}
}

// deaf returns a cache that ignores every context.
func deaf() cache.Cache {
	m := new(cache.Memory)
	return &broken{
		get: func(_ context.Context, k string) ([]byte, error) { return m.Get(context.Background(), k) },
		put: func(_ context.Context, k string, v []byte) error { return m.Put(context.Background(), k, v) },
		delete: func(_ context.Context, k string) error {
			return m.Delete(context.Background(), k)
		},
	}
}

// shared returns a cache that keeps and returns the slices it is given.
func shared() cache.Cache {
	var mu sync.Mutex
	entries := make(map[string][]byte)
	m := new(cache.Memory)
	return &broken{
		Cache: m,
		get: func(ctx context.Context, k string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if v, ok := entries[k]; ok && ctx.Err() == nil {
				return v, nil
			}
			return m.Get(ctx, k)
		},
		put: func(ctx context.Context, k string, v []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil {
				entries[k] = v
			}
			return ctx.Err()
		},
		delete: func(ctx context.Context, k string) error {
			mu.Lock()
			defer mu.Unlock()
			delete(entries, k)
			return ctx.Err()
		},
	}
}

// torn returns a cache whose Put deletes the entry and then writes it.
func torn() cache.Cache {
	m := new(cache.Memory)
	return &broken{Cache: m, put: func(ctx context.Context, k string, v []byte) error {
		if err := m.Delete(context.WithoutCancel(ctx), k); err != nil {
			return err
		}
		return m.Put(ctx, k, v)
	}}
}

// lister is a cache whose list is changed, and ends without an error.
type lister struct {
	*cache.Memory
	change func([]string) []string
}

func listing(change func([]string) []string) cache.Cache { return &lister{new(cache.Memory), change} }

func (l *lister) Keys(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var keys []string
		for key := range l.Memory.Keys(context.Background()) {
			keys = append(keys, key)
		}
		for _, key := range l.change(keys) {
			if !yield(key, nil) {
				return
			}
		}
	}
}

func TestSuiteFindsWhatIsBroken(t *testing.T) {
	noDelete := new(cache.Memory)
	tests := []struct {
		name  string
		cache func() cache.Cache
		want  []string // the cases that must fail; others may
	}{
		{"a miss that is another error",
			func() cache.Cache { return wrapping(func(error) error { return errors.New("no such row") }) },
			[]string{"MissIsErrMiss", "Delete", "DeleteOfNothing"}},
		{"a miss without an error",
			func() cache.Cache { return wrapping(func(error) error { return nil }) },
			[]string{"MissIsErrMiss", "EndedContextGet"}},
		{"every error is a miss",
			func() cache.Cache { return wrapping(func(error) error { return cache.ErrMiss }) },
			[]string{"EndedContextGet"}},
		{"contexts are ignored", deaf,
			[]string{"EndedContextGet", "EndedContextPut", "EndedContextDelete"}},
		{"white space is trimmed",
			func() cache.Cache { return byValue(bytes.TrimSpace) },
			[]string{"GetReturnsWhatWasPut"}},
		{"values are cut off at 64 KiB",
			func() cache.Cache { return byValue(func(v []byte) []byte { return v[:min(len(v), 1<<16)] }) },
			[]string{"LargeValue"}},
		{"the suffix is cut off",
			func() cache.Cache {
				return byKey(func(k string) string { host, _, _ := strings.Cut(k, "+"); return host })
			},
			[]string{"KeysAreKeptApart", "Delete"}},
		{"keys are cut off at 191 characters",
			func() cache.Cache { return byKey(func(k string) string { return k[:min(len(k), 191)] }) },
			[]string{"KeysAreKeptApart"}},
		{"an underline is any character",
			func() cache.Cache { return byKey(strings.NewReplacer("_", "X").Replace) },
			[]string{"KeysAreKeptApart"}},
		{"keys are folded to lower case",
			func() cache.Cache { return byKey(strings.ToLower) },
			[]string{"KeysAreKeptApart"}},
		{"slices are shared", shared,
			[]string{"ReturnedSliceIsTheCallers", "PutKeepsNoReference"}},
		{"Put deletes first", torn,
			[]string{"EndedContextPut"}},
		{"Delete does nothing",
			func() cache.Cache {
				return &broken{Cache: new(cache.Memory), delete: noDelete.Delete}
			},
			[]string{"Delete", "DeleteOfNothing"}},
		{"Delete of nothing fails",
			func() cache.Cache {
				m := new(cache.Memory)
				return &broken{Cache: m, delete: func(ctx context.Context, k string) error {
					if _, err := m.Get(ctx, k); err != nil {
						return err
					}
					return m.Delete(ctx, k)
				}}
			},
			[]string{"DeleteOfNothing"}},
		{"Get returns half of the value",
			func() cache.Cache {
				m := new(cache.Memory)
				return &broken{Cache: m, get: func(ctx context.Context, k string) ([]byte, error) {
					v, err := m.Get(ctx, k)
					return v[:len(v)/2], err
				}}
			},
			[]string{"GetReturnsWhatWasPut", "ConcurrentUse"}},
		{"the first Put wins",
			func() cache.Cache {
				m := new(cache.Memory)
				return &broken{Cache: m, put: func(ctx context.Context, k string, v []byte) error {
					if _, err := m.Get(ctx, k); err == nil {
						return nil
					}
					return m.Put(ctx, k, v)
				}}
			},
			[]string{"PutOverwrites", "GetReturnsWhatWasPut"}},
		{"no key is listed",
			func() cache.Cache { return listing(func(keys []string) []string { return nil }) },
			[]string{"ListsItsKeys"}},
		{"the last key is listed twice",
			func() cache.Cache {
				return listing(func(keys []string) []string { return append(keys, keys[max(len(keys)-1, 0):]...) })
			},
			[]string{"ListsItsKeys"}},
		{"temporary files are listed",
			func() cache.Cache { return listing(func(keys []string) []string { return append(keys, ".put-1~") }) },
			[]string{"ListsItsKeys"}},
		{"a list ignores its context",
			func() cache.Cache { return listing(func(keys []string) []string { return keys }) },
			[]string{"ListsItsKeys"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failed := verdict(t.Context(), tt.cache)
			for _, name := range tt.want {
				if failed[name] == nil {
					t.Errorf("case %s passed; these failed: %v", name, slices.Sorted(maps.Keys(failed)))
				}
			}
		})
	}
}

// A cache may wrap a miss, but change nothing else about it.
func TestSuiteAcceptsAWrappedMiss(t *testing.T) {
	Run(t, func(*testing.T) cache.Cache {
		return wrapping(func(err error) error { return fmt.Errorf("table certificates: %w", err) })
	})
}

// What checkConcurrent takes for a value that some writer put.
func TestWhole(t *testing.T) {
	threes, fives := bytes.Repeat([]byte{3}, 300), bytes.Repeat([]byte{5}, 500)
	tests := []struct {
		name  string
		value []byte
		want  bool
	}{
		{"all of a value", threes, true},
		{"all of another", fives, true},
		{"nothing", nil, false},
		{"half of a value", threes[:150], false},
		{"a value over a longer one", slices.Concat(threes, fives[300:]), false},
		{"a value after a value", slices.Concat(threes, fives), false},
	}
	for _, tt := range tests {
		if got := whole(tt.value); got != tt.want {
			t.Errorf("%s: whole = %t, want %t", tt.name, got, tt.want)
		}
	}
}

// verdict runs every case over a new cache and returns the errors by name.
func verdict(ctx context.Context, newCache func() cache.Cache) map[string]error {
	failed := make(map[string]error)
	for _, c := range cases {
		if err := c.check(ctx, newCache()); err != nil {
			failed[c.name] = err
		}
	}
	return failed
}
