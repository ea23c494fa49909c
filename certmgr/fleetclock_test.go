package certmgr_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// lockAgain is how often a machine that follows another one tries to take its lock.
const lockAgain = 5 * time.Second

// skewed gives a machine a wall clock that is off by what the result says.
func (m *machine) skewed(by time.Duration) *atomic.Int64 {
	var off atomic.Int64
	off.Store(int64(by))
	certmgr.SetClock(m.Manager, func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
	return &off
}

// Clocks that are ten minutes apart change nothing.
func TestFleetWithDifferentClocks(t *testing.T) {
	for _, by := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				const host, later = "a.example.com", "b.example.com"
				first, second := s.machine(host, later), s.machine(host, later)
				second.skewed(by)
				slow := s.ca.SlowValidation(host, 5*time.Second)
				first.begin(t, host)
				time.Sleep(time.Second)
				_, err := second.visit(host)
				wantHolder(t, err, "web-1")
				s.await(second, host, 10*time.Second)
				if late := time.Since(s.store.storedAt(host)); late > 1100*time.Millisecond {
					t.Errorf("it is served %v after it was stored", late)
				}
				slow.Lift()
				first.mu.Lock()
				first.at = len(first.steps) + 20
				first.mu.Unlock()
				first.begin(t, later)
				if !first.isStruck() {
					time.Sleep(time.Second)
				}
				if !first.isStruck() {
					t.Fatal("it has not reached the step")
				}
				s.await(second, later, takeover)
				for _, host := range []string{host, later} {
					if valid, _ := s.orders(host); valid != 1 {
						t.Errorf("%d orders of %s are valid", valid, host)
					}
				}
			})
		})
	}
}

// A machine that was suspended finds out before its next request to the CA, although no
// timer has fired, and begins again.
func TestFleetSuspendedMachineStops(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		m := s.machine(host)
		off := m.skewed(0)
		m.fault = func(_ context.Context, step string) error {
			if strings.HasPrefix(step, "CA /challenge/") && off.Load() == 0 {
				off.Store(int64(time.Minute))
			}
			return nil
		}
		s.await(m, host, 10*time.Second)
		synctest.Wait()
		e := m.wantOne(t, audit.IssuanceCanceled)
		if e.Rule != "Lease" || e.Err == nil {
			t.Errorf("the event is %v", e)
		}
		steps, asked := m.madeSince(0), false
		for _, step := range steps {
			switch {
			case strings.HasPrefix(step, "CA /challenge/"):
				asked = true
			case asked && strings.HasPrefix(step, "lock "):
				if valid, all := s.orders(host); valid != 1 || all != 1 {
					t.Errorf("%d of %d orders are valid", valid, all)
				}
				return
			case asked && strings.HasPrefix(step, "CA "):
				t.Fatalf("it went on with %q without a lock", step)
			}
		}
		t.Errorf("it took no lock again: %q", steps)
	})
}

// lateStore is a store that extends leases late, whatever the context says.
type lateStore struct{ cache.Memory }

type lateLease struct{ cache.Lease }

func (s *lateStore) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	l, err := s.Memory.Lock(ctx, name, owner, ttl)
	if err != nil {
		return nil, err
	}
	return lateLease{l}, nil
}

func (s *lateStore) Put(ctx context.Context, key string, data []byte) error {
	if l, ok := cache.Guarded(ctx).(lateLease); ok {
		ctx = cache.Guard(ctx, l.Lease)
	}
	return s.Memory.Put(ctx, key, data)
}

func (l lateLease) Extend(ctx context.Context, ttl time.Duration) error {
	time.Sleep(8 * time.Second) // longer than the time-out of a call
	return l.Lease.Extend(context.WithoutCancel(ctx), ttl)
}

// The store extends a lease when the issuance is over: the lock is free then, and not
// only when the lease ends.
func TestFleetLeaseThatIsExtendedLateIsUnlocked(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		m, store := s.machine(host), new(lateStore)
		m.Cache = store
		m.setFault(func(_ context.Context, step string) error {
			if strings.HasPrefix(step, "CA /finalize") || strings.HasPrefix(step, "CA /certificate") {
				time.Sleep(8 * time.Second)
			}
			return nil
		})
		isLocked := func() bool {
			l, err := store.Memory.Lock(t.Context(), host+"+issue", "a test", cache.MinLease)
			if err == nil {
				l.Unlock(t.Context())
			}
			return err != nil
		}
		m.begin(t, host) // it takes 16 s
		time.Sleep(17 * time.Second)
		if !isLocked() { // it is extended from 10 s to 18 s
			t.Error("the lock is free while Extend is late")
		}
		time.Sleep(2 * time.Second)
		if isLocked() {
			t.Error("the lock is taken, and nobody uses it")
		}
	})
}

// What the CA told a machine whose clock is ahead keeps the others waiting as long as
// that one, and not until their own clocks say what it has written.
func TestFleetMachineAheadRecordsFailures(t *testing.T) {
	const served, first, second = "served.example.com", "first.example.com", "second.example.com"
	start := func(s *site) (ahead, other *machine) {
		for range 2 {
			m := s.machine(served, first, second)
			m.Backoff = []time.Duration{time.Minute}
		}
		ahead, other = s.machines[0], s.machines[1]
		ahead.skewed(10 * time.Minute)
		s.await(other, served, 10*time.Second)
		s.await(ahead, served, 10*time.Second)
		return ahead, other
	}
	t.Run("of a host", func(t *testing.T) {
		atSite(t, func(t *testing.T, s *site) {
			ahead, other := start(s)
			refused := s.ca.FailValidation(first, "", acmetest.Problem{Status: 403, Type: "unauthorized", Detail: "no"})
			ahead.begin(t, first)
			time.Sleep(10 * time.Second)
			refused.Lift()
			if _, err := other.visit(first); !errors.Is(err, certmgr.ErrBackoff) {
				t.Errorf("the verdict is not known: %v", err)
			}
			s.await(other, first, 80*time.Second)
		})
	})
	t.Run("of the CA", func(t *testing.T) {
		atSite(t, func(t *testing.T, s *site) {
			ahead, other := start(s)
			down := s.ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, http.Header{}, acmetest.Problem{Type: "serverInternal"})
			ahead.begin(t, first)
			time.Sleep(20 * time.Second)
			if _, err := other.visit(second); !errors.Is(err, certmgr.ErrCAUnavailable) {
				t.Errorf("the outage is not known: %v", err)
			}
			time.Sleep(10 * time.Second)
			down.Lift()
			s.await(other, second, time.Minute)
		})
	})
}
