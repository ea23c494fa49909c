package cache

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Memory is a [Cache] in the memory of the process, for tests and for programs
// that must not write to disk. It forgets everything when the process ends, so
// each restart orders every certificate again and soon hits the rate limits of
// a real CA. In production use [Dir] or a shared store.
//
// It is a [Locker] too, for several Managers in one process and for tests. Its
// clock is time.Now, so that leases end in virtual time in a bubble of
// testing/synctest.
//
// The zero Memory is empty and ready for use. It has no size limit and is safe
// for concurrent use. Do not copy it after first use.
type Memory struct {
	locks memoryLocks // its mu goes before the one below

	// mu protects the fields below. It is held only to look up, copy and notify.
	mu       sync.RWMutex
	entries  map[string][]byte
	watchers map[string]map[chan struct{}]bool
}

var (
	_ Cache       = (*Memory)(nil)
	_ Lister      = (*Memory)(nil)
	_ BatchGetter = (*Memory)(nil)
	_ Watcher     = (*Memory)(nil)
	_ Locker      = (*Memory)(nil)
)

// Get returns a copy of the value of key, or [ErrMiss].
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, failed("get", key, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.entries[key]
	if !ok {
		return nil, ErrMiss
	}
	return bytes.Clone(data), nil
}

// GetMany implements [BatchGetter].
func (m *Memory) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cache: get %d entries: %w", len(keys), err)
	}
	values := make(map[string][]byte, len(keys))
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, key := range keys {
		if data, ok := m.entries[key]; ok {
			values[key] = bytes.Clone(data)
		}
	}
	return values, nil
}

// Put stores a copy of data. It fails only if ctx has ended, or is that of
// [Guard] with a lease that has not its lock.
func (m *Memory) Put(ctx context.Context, key string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return failed("put", key, err)
	}
	data = append([]byte{}, data...) // an empty value is not nil
	release, err := m.fence(ctx)
	if err != nil {
		return failed("put", key, err)
	}
	defer release()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[string][]byte)
	}
	m.entries[key] = data
	m.notify(key)
	return nil
}

// Delete removes the value of key. It fails as Put does.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return failed("delete", key, err)
	}
	release, err := m.fence(ctx)
	if err != nil {
		return failed("delete", key, err)
	}
	defer release()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
	m.notify(key)
	return nil
}

// Keys implements [Lister]: the keys at the time at which the loop begins.
func (m *Memory) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.RLock()
		keys := slices.Collect(maps.Keys(m.entries))
		m.mu.RUnlock()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", failed("list", "", err))
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

// Watch implements [Watcher].
func (m *Memory) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, failed("watch", key, err)
	}
	changes := make(chan struct{}, 1) // several changes in a row are one
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[string]map[chan struct{}]bool)
	}
	if m.watchers[key] == nil {
		m.watchers[key] = make(map[chan struct{}]bool)
	}
	m.watchers[key][changes] = true
	context.AfterFunc(ctx, func() {
		m.mu.Lock() // nobody sends any more
		defer m.mu.Unlock()
		if delete(m.watchers[key], changes); len(m.watchers[key]) == 0 {
			delete(m.watchers, key)
		}
		close(changes)
	})
	return changes, nil
}

// notify tells the watchers of key. The caller holds mu.
func (m *Memory) notify(key string) {
	for changes := range m.watchers[key] {
		select {
		case changes <- struct{}{}:
		default:
		}
	}
}
