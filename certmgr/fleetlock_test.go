package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// A host whose lock the store refuses, or never answers about, keeps no other host from
// being issued, however often it is visited.
func TestFleetLockOfOneHostFails(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		name := "refused"
		if hangs {
			name = "hanging"
		}
		t.Run(name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				const bad, good = "bad.example.com", "good.example.com"
				m := s.machine(bad, good)
				over := make(chan struct{})
				m.setFault(func(_ context.Context, step string) error {
					if step != "lock "+bad+"+issue" {
						return nil
					}
					if hangs {
						<-over
					}
					return errStoreDown
				})
				var ended atomic.Bool
				go func() {
					for !ended.Load() {
						m.visit(bad)
						time.Sleep(50 * time.Millisecond)
					}
				}()
				time.Sleep(10*time.Second + 25*time.Millisecond)
				_, took := s.await(m, good, 10*time.Second)
				ended.Store(true)
				close(over)
				time.Sleep(time.Second)
				if took > time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// oddLocks is a store whose Lock is another one.
type oddLocks struct {
	cache.Memory
	lock func(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error)
}

func (s *oddLocks) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	return s.lock(ctx, name, owner, ttl)
}

// A Lock that returns an error whose pointer is nil has failed, and nothing panics.
func TestFleetLockReturnsANilPointer(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		m, store := s.machine(host), new(oddLocks)
		var mended atomic.Bool
		store.lock = func(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
			if mended.Load() {
				return store.Memory.Lock(ctx, name, owner, ttl)
			}
			var held *cache.HeldError
			return nil, held
		}
		m.Cache = store
		if _, err := m.visit(host); !errors.Is(err, certmgr.ErrCache) || !strings.Contains(err.Error(), "nil *cache.HeldError") {
			t.Errorf("the visitor got %v", err)
		}
		mended.Store(true)
		s.await(m, host, 10*time.Second)
	})
}

// A lock that the store grants too late is unlocked, and not left to end by itself.
func TestFleetLockThatComesLateIsUnlocked(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		m, store := s.machine(host), new(oddLocks)
		store.lock = func(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
			l, err := store.Memory.Lock(ctx, name, owner, ttl)
			time.Sleep(6 * time.Second) // longer than the time-out of a call
			return l, err
		}
		m.Cache = store
		m.begin(t, host)
		time.Sleep(7 * time.Second)
		l, err := store.Memory.Lock(t.Context(), host+"+issue", "a test", cache.MinLease)
		if err != nil {
			t.Fatal(err)
		}
		l.Unlock(t.Context())
	})
}
