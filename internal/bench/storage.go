package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
)

// memoryStorage is a certmagic.Storage that works like cache.Memory does for
// the other subjects: it stores copies and returns copies. The zero value is
// empty and ready for use.
type memoryStorage struct {
	mu     sync.RWMutex
	values map[string][]byte
	locks  map[string]chan struct{} // closed when the lock is released
}

var _ certmagic.Storage = (*memoryStorage)(nil)

func (m *memoryStorage) Store(_ context.Context, key string, value []byte) error {
	value = bytes.Clone(value)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = make(map[string][]byte)
	}
	m.values[key] = value
	return nil
}

func (m *memoryStorage) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(value), nil
}

// Delete removes a file, or a directory with everything in it.
func (m *memoryStorage) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.values {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(m.values, k)
		}
	}
	return nil
}

// Exists reports only on files; nothing here asks for directories.
func (m *memoryStorage) Exists(_ context.Context, key string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.values[key]
	return ok
}

// List returns the files below prefix, whatever recursive is: there are no
// directories.
func (m *memoryStorage) List(_ context.Context, prefix string, _ bool) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var keys []string
	for k := range m.values {
		if strings.HasPrefix(k, prefix+"/") {
			keys = append(keys, k)
		}
	}
	if keys == nil {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (m *memoryStorage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.values[key]
	if !ok {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
}

func (m *memoryStorage) Lock(ctx context.Context, name string) error {
	for {
		m.mu.Lock()
		held, ok := m.locks[name]
		if !ok {
			if m.locks == nil {
				m.locks = make(map[string]chan struct{})
			}
			m.locks[name] = make(chan struct{})
			m.mu.Unlock()
			return nil
		}
		m.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memoryStorage) Unlock(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	held, ok := m.locks[name]
	if !ok {
		return fmt.Errorf("%s is not locked", name)
	}
	close(held)
	delete(m.locks, name)
	return nil
}
