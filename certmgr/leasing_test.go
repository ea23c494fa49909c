package certmgr_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// leasing is a world's cache with the locks of the cache.Memory in it: the store of
// a fleet, which can be down.
type leasing struct {
	certmgr.Cache

	mu    sync.Mutex
	taken []string // the names of the locks that were taken, in order
	fails bool     // it is down
}

var _ cache.Locker = (*leasing)(nil)

var errRefused = errors.New("connection refused")

// check returns an error while the store is down.
func (l *leasing) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails {
		return errRefused
	}
	return nil
}

// down takes the store down, or brings it back.
func (l *leasing) down(fails bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fails = fails
}

func (l *leasing) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	c := l.Cache
	if faulty, ok := c.(*faultyCache); ok {
		c = faulty.Cache
	}
	locker, _ := cache.LockerOf(c)
	lease, err := locker.Lock(ctx, name, owner, ttl)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.taken = append(l.taken, name)
	}
	return lease, err
}

// names returns the names of the locks that were taken so far.
func (l *leasing) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.taken)
}

func (l *leasing) Get(ctx context.Context, key string) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Cache.Get(ctx, key)
}

func (l *leasing) Put(ctx context.Context, key string, data []byte) error {
	if err := l.check(); err != nil {
		return err
	}
	return l.Cache.Put(ctx, key, data)
}

func (l *leasing) Delete(ctx context.Context, key string) error {
	if err := l.check(); err != nil {
		return err
	}
	return l.Cache.Delete(ctx, key)
}
