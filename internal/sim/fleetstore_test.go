package sim

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// storeCall is a kind of call of the store.
type storeCall int

const (
	storeRead storeCall = iota
	storeWrite
	storeLock
	storeCalls
)

// storeFault is what happens to such calls.
type storeFault int

const (
	storeWorks storeFault = iota
	storeFails
	storeHangs // until the call's context ends
	storeSlow  // for 1 to 3 s
	storeLate  // they take place when the caller has given up; reads hang
	storeFaults
)

// fleetStore is the store that the machines share. It has the clock of the bubble.
type fleetStore struct {
	f     *fleet
	inner cache.Memory

	mu      sync.Mutex
	rng     *rand.Rand
	faults  map[*node]*[storeCalls]storeFault // nil is all machines
	lately  map[*node]time.Time               // since when there is no fault
	entries map[string]storedEntry            // by host
}

// storedEntry is the certificate that the store has for a host.
type storedEntry struct {
	leaf *x509.Certificate
	at   time.Time
}

func newFleetStore(f *fleet, seed uint64) *fleetStore {
	return &fleetStore{f: f, rng: rand.New(rand.NewPCG(seed, 2<<32)), faults: make(map[*node]*[storeCalls]storeFault),
		lately: make(map[*node]time.Time), entries: make(map[string]storedEntry)}
}

// set sets what happens to the calls of a machine, or to those of all for nil.
func (s *fleetStore) set(n *node, faults [storeCalls]storeFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[n] = &faults
}

// clear ends that.
func (s *fleetStore) clear(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faults, n)
	s.lately[n] = time.Now()
}

// worksSince reports whether nothing was wrong with the store for a machine since t.
func (s *fleetStore) worksSince(n *node, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults[n] == nil && s.faults[nil] == nil && s.lately[n].Before(t) && s.lately[nil].Before(t)
}

// stored returns what the store has for a host.
func (s *fleetStore) stored(host string) storedEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[host]
}

// fault returns what happens to a call now, and how long it takes.
func (s *fleetStore) fault(n *node, kind storeCall) (storeFault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := storeWorks
	for _, who := range []*node{n, nil} {
		if all := s.faults[who]; all != nil && all[kind] != storeWorks {
			fault = all[kind]
		}
	}
	switch fault {
	case storeSlow:
		return fault, time.Second + time.Duration(s.rng.Int64N(int64(2*time.Second)))
	case storeLate:
		return fault, logUniform(s.rng, 4*time.Second, 90*time.Second)
	}
	return fault, 0
}

// pass lets a call of a machine take place, or what is wrong.
func (s *fleetStore) pass(ctx context.Context, n *node, kind storeCall, f func(context.Context) error) error {
	fault, wait := s.fault(n, kind)
	switch {
	case fault == storeFails:
		return errDisk
	case fault == storeHangs, fault == storeLate && kind == storeRead:
		if ctx.Done() == nil { // see life.call
			return errDisk
		}
		<-ctx.Done()
		return ctx.Err()
	case fault == storeSlow, fault == storeLate:
		time.Sleep(wait)
		return f(context.WithoutCancel(ctx))
	}
	return f(ctx)
}

// put writes an entry. A certificate is not replaced by an older one.
func (s *fleetStore) put(ctx context.Context, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.inner.Put(ctx, key, data); err != nil {
		return err
	}
	leaf := leafIn(data)
	if leaf == nil || strings.Contains(key, "+") { // an answer to a challenge
		return nil
	}
	if had := s.entries[key].leaf; had != nil && leaf.NotBefore.Before(had.NotBefore) {
		s.f.violated(key, "the certificate of %v was replaced by that of %v", had.NotBefore, leaf.NotBefore)
	}
	if had := s.entries[key].leaf; had == nil || !had.Equal(leaf) {
		s.entries[key] = storedEntry{leaf, time.Now()}
	}
	return nil
}

// delete deletes an entry, which must not be that of a certificate.
func (s *fleetStore) delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key].leaf != nil {
		s.f.violated(key, "its certificate was deleted")
	}
	return s.inner.Delete(ctx, key)
}

// Get implements cache.Cache.
func (p *life) Get(ctx context.Context, key string) (data []byte, err error) {
	err = p.call(ctx, storeRead, func(ctx context.Context) (err error) {
		data, err = p.node.f.store.inner.Get(ctx, key)
		return err
	})
	return data, err
}

// Put implements cache.Cache.
func (p *life) Put(ctx context.Context, key string, data []byte) error {
	if strings.HasPrefix(key, newHostPrefix) && !strings.Contains(key, "+") {
		p.reachPut()
	}
	return p.call(ctx, storeWrite, func(ctx context.Context) error { return p.node.f.store.put(unwrapLease(ctx), key, data) })
}

// Delete implements cache.Cache.
func (p *life) Delete(ctx context.Context, key string) error {
	return p.call(ctx, storeWrite, func(ctx context.Context) error { return p.node.f.store.delete(unwrapLease(ctx), key) })
}

// Lock implements cache.Locker.
func (p *life) Lock(ctx context.Context, name, owner string, ttl time.Duration) (lease cache.Lease, err error) {
	err = p.call(ctx, storeLock, func(ctx context.Context) (err error) {
		lease, err = p.node.f.store.inner.Lock(ctx, name, owner, ttl)
		return err
	})
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, newHostPrefix) {
		if b := p.node.f.takeTrap(); b != nil {
			p.arm(b)
		}
	}
	return lifeLease{lease, p}, nil
}

// lifeLease is a lease of a Manager's.
type lifeLease struct {
	cache.Lease
	p *life
}

func (l lifeLease) Extend(ctx context.Context, ttl time.Duration) error {
	return l.p.call(ctx, storeLock, func(ctx context.Context) error { return l.Lease.Extend(ctx, ttl) })
}

func (l lifeLease) Unlock(ctx context.Context) error {
	return l.p.call(ctx, storeLock, func(ctx context.Context) error { return l.Lease.Unlock(ctx) })
}

// unwrapLease makes the lease of a write the store's own.
func unwrapLease(ctx context.Context) context.Context {
	if l, ok := cache.Guarded(ctx).(lifeLease); ok {
		return cache.Guard(ctx, l.Lease)
	}
	return ctx
}
