package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// storeFault is a fault of the store for all machines.
type storeFault struct {
	name string
	call func(ctx context.Context, over <-chan struct{}) error
}

func storeFaults() []storeFault {
	return []storeFault{
		{"down", func(context.Context, <-chan struct{}) error { return errStoreDown }},
		{"slow", func(ctx context.Context, _ <-chan struct{}) error {
			select {
			case <-time.After(2 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		{"hanging", func(_ context.Context, over <-chan struct{}) error { <-over; return errStoreDown }},
	}
}

// isAboutRenewal reports whether a step is of the question when to renew, which comes
// at a random time.
func isAboutRenewal(step string) bool {
	return strings.HasSuffix(step, "+ari") || strings.Contains(step, "renewal")
}

// fail makes the store fail for all machines, from step at of the first one on, for d.
func (s *site) fail(fault storeFault, at int, d time.Duration) {
	over := make(chan struct{})
	var steps atomic.Int64
	var failing atomic.Bool
	for i, m := range s.machines {
		m.setFault(func(ctx context.Context, step string) error {
			if i == 0 && !isAboutRenewal(step) && steps.Add(1) == int64(at) {
				failing.Store(true)
				time.AfterFunc(d, func() {
					failing.Store(false)
					close(over)
				})
			}
			if !failing.Load() || strings.HasPrefix(step, "CA ") {
				return nil
			}
			return fault.call(ctx, over)
		})
	}
}

// The store fails for all machines at each step of an issuance, for twice a lease. A
// host in memory is served all the time, no two orders come to a certificate, and
// afterwards all machines serve the same one. Each machine tells once that it cannot
// lock.
func TestFleetOutlivesItsStore(t *testing.T) {
	t.Parallel()
	const host, warm = "a.example.com", "warm.example.com"
	n := len(undisturbed(t, host))
	for _, fault := range storeFaults() {
		for at := 1; at <= n; at += 2 {
			t.Run(fmt.Sprintf("%s from step %d", fault.name, at), func(t *testing.T) {
				atSite(t, func(t *testing.T, s *site) {
					first, second := s.machine(host, warm), s.machine(host, warm)
					for _, m := range s.machines {
						s.await(m, warm, 10*time.Second)
					}
					time.Sleep(time.Minute)
					s.fail(fault, at, 2*testLease)
					first.begin(t, host)
					for range 2 * testLease / time.Second {
						for _, m := range s.machines {
							s.await(m, warm, 0)
							began := time.Now()
							go func() {
								_, err := m.visit(host)
								if d := time.Since(began); d > 11*time.Second {
									t.Errorf("a visitor waited %v for %v", d, err)
								}
							}()
						}
						time.Sleep(time.Second)
					}
					time.Sleep(time.Second)
					cert, _ := s.await(second, host, takeover)
					again, _ := s.await(first, host, takeover)
					if serialOf(cert.Leaf) != serialOf(again.Leaf) {
						t.Error("the machines serve different certificates")
					}
					if valid, all := s.orders(host); valid != 1 || all > 2 {
						t.Errorf("%d of %d orders are valid", valid, all)
					}
					for _, m := range s.machines {
						told := 0
						for _, e := range m.events.of(audit.CacheReadFailed) {
							if strings.Contains(e.Err.Error(), "taking the lock") {
								told++
							}
						}
						if told > 1 {
							t.Errorf("%s tells %d times that it cannot lock", m.name, told)
						}
						for _, e := range m.events.of(audit.IssuanceFailed) {
							t.Errorf("%s blames the host: %v", m.name, e)
						}
					}
				})
			})
		}
	}
}

// While nothing can be locked, nothing is ordered, and visitors get an ErrCache at once.
func TestFleetOrdersNothingWithoutItsLocks(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host, other = "a.example.com", "b.example.com"
		m := s.machine(host, other)
		m.fault = func(_ context.Context, step string) error {
			if strings.HasPrefix(step, "lock ") {
				return errStoreDown
			}
			return nil
		}
		for range 100 {
			if _, err := m.visit(host); !errors.Is(err, certmgr.ErrCache) || !errors.Is(err, errStoreDown) {
				t.Fatalf("got %v", err)
			}
			began := time.Now()
			if _, err := m.visit(other); !errors.Is(err, certmgr.ErrCache) || time.Since(began) > 0 {
				t.Fatalf("got %v after %v", err, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		if n := len(s.ca.Orders()); n > 0 {
			t.Errorf("%d orders", n)
		}
		e := m.wantOne(t, audit.CacheReadFailed)
		if !strings.Contains(e.Err.Error(), host+"+issue") {
			t.Errorf("the event is %v", e)
		}
		if st := m.Snapshot().Hosts; len(st) > 0 {
			t.Errorf("hosts are blamed: %+v", st)
		}
		m.setFault(nil)
		s.await(m, host, 2*time.Second)
	})
}

// Close during an issuance, or while another machine is followed, unlocks and leaves
// nothing running, whatever the stage.
func TestFleetCloses(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	for at := 1; at <= len(undisturbed(t, host)); at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				first, second := s.machine(host), s.machine(host)
				steps, reached := 0, make(chan struct{})
				first.fault = func(ctx context.Context, _ string) error {
					first.mu.Lock()
					steps++
					now := steps == at
					first.mu.Unlock()
					if now {
						close(reached)
						time.Sleep(100 * time.Millisecond)
					}
					return nil
				}
				first.begin(t, host)
				<-reached
				second.begin(t, host)
				if err := first.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				synctest.Wait()
				took := time.Duration(0)
				if _, took = s.await(second, host, 2*lockAgain); s.store.isLocked(host + "+issue") {
					synctest.Wait()
				}
				t.Logf("the other one serves after %v", took)
				if valid, all := s.orders(host); valid != 1 || all > 2 {
					t.Errorf("%d of %d orders are valid", valid, all)
				}
			})
		})
	}
}

// A machine that follows another one closes at once.
func TestFleetFollowerCloses(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		defer s.ca.SlowValidation(host, 20*time.Second).Lift()
		first.begin(t, host)
		time.Sleep(time.Second)
		_, err := second.visit(host)
		wantHolder(t, err, "web-1")
		began := time.Now()
		if err := second.Close(); err != nil || time.Since(began) > 0 {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
	})
}

// A store that grants locks and refuses writes costs the CA one order, and no requests
// for it until the store can be written again.
func TestFleetAsksNothingThatItCannotStore(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{"put ", "put a.example.com"} {
		t.Run(refused, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				const host, warm = "a.example.com", "warm.example.com"
				m := s.machine(host, warm)
				s.await(m, warm, 10*time.Second)
				m.setFault(func(_ context.Context, step string) error {
					if strings.HasPrefix(step, refused) {
						return errStoreDown
					}
					return nil
				})
				before := len(s.ca.Requests())
				for range 360 {
					if _, err := m.visit(host); err == nil {
						t.Fatal("no error")
					}
					time.Sleep(10 * time.Second)
				}
				if n := len(s.ca.Requests()) - before; n > 20 {
					t.Errorf("%d requests in an hour", n)
				}
				m.setFault(nil)
				s.await(m, host, time.Minute)
				if n := len(s.ca.IssuedFor(host)); n != 1 {
					t.Errorf("%d certificates", n)
				}
			})
		})
	}
}
