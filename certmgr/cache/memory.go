package cache

import (
	"bytes"
	"context"
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
// The zero Memory is empty and ready for use. It has no size limit and is safe
// for concurrent use. Do not copy it after first use.
type Memory struct {
	// mu protects entries. It is held only to look up and copy.
	mu      sync.RWMutex
	entries map[string][]byte
}

var (
	_ Cache  = (*Memory)(nil)
	_ Lister = (*Memory)(nil)
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

// Put stores a copy of data. It fails only if ctx has ended.
func (m *Memory) Put(ctx context.Context, key string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return failed("put", key, err)
	}
	data = append([]byte{}, data...) // an empty value is not nil
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[string][]byte)
	}
	m.entries[key] = data
	return nil
}

// Delete removes the value of key. It fails only if ctx has ended.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return failed("delete", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
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
