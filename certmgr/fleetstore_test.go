package certmgr_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// A sharedStore is a store with locks, which several machines share.
type sharedStore struct {
	cache.Memory

	mu     sync.Mutex
	stored map[string]time.Time // when an entry was last put
}

func newSharedStore() *sharedStore { return &sharedStore{stored: make(map[string]time.Time)} }

func (s *sharedStore) Put(ctx context.Context, key string, data []byte) error {
	err := s.Memory.Put(ctx, key, data)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stored[key] = time.Now()
	}
	return err
}

// isLocked reports whether somebody has a lock.
func (s *sharedStore) isLocked(name string) bool {
	l, err := s.Lock(context.Background(), name, "a test", cache.MinLease)
	if err == nil {
		l.Unlock(context.Background())
	}
	_, held := errors.AsType[*cache.HeldError](err)
	return held
}

// storedAt returns when an entry was last put.
func (s *sharedStore) storedAt(key string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored[key]
}
