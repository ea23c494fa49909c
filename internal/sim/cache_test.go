package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
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
	stored       map[string]bool // serial numbers of all certificates that were ever written
	present      map[string]bool // keys
}

func newUnreliable() *unreliable {
	return &unreliable{inner: new(cache.Memory), stored: make(map[string]bool), present: make(map[string]bool)}
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
	clear(u.present)
}

// wasStored reports whether a certificate was written, even if it is gone.
func (u *unreliable) wasStored(serial string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stored[serial]
}

// keys returns the keys of all entries.
func (u *unreliable) keys() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.present))
}

// note notes that an entry was written or, if data is nil, deleted.
func (u *unreliable) note(key string, data []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if data == nil {
		delete(u.present, key)
		return
	}
	u.present[key] = true
	if serial := serialIn(data); serial != "" {
		u.stored[serial] = true
	}
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
	if err := inner.Put(ctx, key, data); err != nil {
		return err
	}
	u.note(key, data)
	return nil
}

func (u *unreliable) Delete(ctx context.Context, key string) error {
	inner, err := u.reach(ctx, true)
	if err != nil {
		return err
	}
	if err := inner.Delete(ctx, key); err != nil {
		return err
	}
	u.note(key, nil)
	return nil
}
