package sim

import (
	"context"
	"errors"
	"sync"

	"github.com/nostall/nostall/certmgr/cache"
)

// cacheFault is the way in which calls of a cache fail.
type cacheFault int

const (
	cacheWorks cacheFault = iota
	cacheFails
	cacheHangs // until the call's context ends
)

var errDisk = errors.New("sim: the disk does not answer")

// unreliable is a cache that fails or hangs on demand.
type unreliable struct {
	mu           sync.Mutex
	inner        *cache.Memory
	reads, saves cacheFault
}

var _ cache.Cache = (*unreliable)(nil)

func (u *unreliable) set(reads, saves cacheFault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reads, u.saves = reads, saves
}

// clear loses everything.
func (u *unreliable) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.inner = new(cache.Memory)
}

// reach returns the underlying cache, or the current fault.
func (u *unreliable) reach(ctx context.Context, write bool) (*cache.Memory, error) {
	u.mu.Lock()
	inner, fault := u.inner, u.reads
	if write {
		fault = u.saves
	}
	u.mu.Unlock()
	switch fault {
	case cacheFails:
		return nil, errDisk
	case cacheHangs:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return inner, nil
}

func (u *unreliable) Get(ctx context.Context, key string) ([]byte, error) {
	inner, err := u.reach(ctx, false)
	if err != nil {
		return nil, err
	}
	return inner.Get(ctx, key)
}

func (u *unreliable) Put(ctx context.Context, key string, data []byte) error {
	inner, err := u.reach(ctx, true)
	if err != nil {
		return err
	}
	return inner.Put(ctx, key, data)
}

func (u *unreliable) Delete(ctx context.Context, key string) error {
	inner, err := u.reach(ctx, true)
	if err != nil {
		return err
	}
	return inner.Delete(ctx, key)
}
