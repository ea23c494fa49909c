package certmgr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// Every callback may call the Manager, and none of them blocks another host
// while it hangs: no lock is held across a callback.
func TestCallbacksMayReenter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := w.m
		use := func() {
			m.Snapshot()
			m.Hosts.Contains("a.example.com")
			m.Hosts.Add("z.example.com")
			m.Hosts.Remove("z.example.com")
			w.get("denied.example.org")
		}
		policyCalls := 0
		m.HostPolicy = func(_ context.Context, host string) error {
			if host == "p.example.com" {
				policyCalls++
				use()
				return nil
			}
			return errors.New("no")
		}
		w.cache.get(func(context.Context, string) error { use(); return nil })
		w.cache.put(func(context.Context, string) error { use(); return nil })
		m.Audit = func(ctx context.Context, e audit.Event) {
			w.events.hook(ctx, e)
			if e.Kind != audit.HostListed && e.Kind != audit.HostUnlisted { // use makes those
				use()
			}
		}
		m.Prompt = func(string) bool { use(); return true }
		w.mustGet("a.example.com")
		w.mustGet("p.example.com")
		if policyCalls != 1 {
			t.Errorf("the policy was called %d times", policyCalls)
		}
	})
}

func TestHungCallbacksOfOneHostHarmNoOther(t *testing.T) {
	stuck := make(map[string]func(w *world) func())
	stuck["cache read"] = func(w *world) func() {
		w.cache.get(func(_ context.Context, key string) error {
			if strings.HasPrefix(key, "a.") {
				w.cache.hang()
			}
			return nil
		})
		return w.cache.release
	}
	stuck["policy"] = func(w *world) func() {
		w.m.Hosts.Remove("a.example.com")
		release := make(chan struct{})
		w.m.HostPolicy = func(_ context.Context, host string) error { <-release; return nil }
		return func() { close(release) }
	}
	stuck["CA"] = func(w *world) func() { return w.ca.Stall(acmetest.Match{Host: "a.example.com"}) }
	stuck["audit"] = func(w *world) func() {
		release := make(chan struct{})
		w.m.Audit = func(_ context.Context, e audit.Event) { <-release }
		return func() { close(release) }
	}
	for name, stick := range stuck {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				release := stick(w)
				var wg sync.WaitGroup
				for range 600 { // more than one host's share of MaxWaiting
					wg.Go(func() { w.get("a.example.com") })
				}
				synctest.Wait()
				start := time.Now()
				w.mustGet("b.example.com")
				w.mustGet("b.example.com")
				w.m.Snapshot()
				if d := time.Since(start); d > time.Second {
					t.Errorf("another host's certificate took %v", d)
				}
				wg.Wait()
				release()
				synctest.Wait()
			})
		})
	}
}

// Hosts that failed before hold at most half of the slots.
func TestFailingHostsHoldHalfOfTheSlots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 4
		w.m.HandshakeWait = -1
		var bad []string
		for i := range 20 {
			bad = append(bad, fmt.Sprintf("bad.example%d.com", i))
		}
		w.m.Hosts.Add(bad...)
		for _, h := range bad {
			w.ca.FailValidation(h, "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			w.get(h)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		for _, h := range bad {
			w.ca.Stall(acmetest.Match{Host: h})
			w.get(h)
		}
		synctest.Wait()
		if snap := w.m.Snapshot(); snap.Issuing != 2 || snap.Queued != 18 {
			t.Errorf("%d issuances of hosts that failed before hold slots and %d wait, want 2 and 18", snap.Issuing, snap.Queued)
		}
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Errorf("a host that did not fail gets no slot: %v", err)
		}
	})
}

// The breaker: the CA as a whole is backed off once.
func TestBreaker(t *testing.T) {
	status := func(e acmetest.Endpoint, code int) func(*world) func() {
		return func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: e}, code, nil, acmetest.Problem{Type: "serverInternal", Detail: "down"})
		}
	}
	tests := []struct {
		name  string
		fault func(*world) func()
	}{
		{"directory", status(acmetest.Directory, http.StatusServiceUnavailable)},
		{"newNonce", status(acmetest.NewNonce, http.StatusInternalServerError)},
		{"newAccount", status(acmetest.NewAccount, http.StatusInternalServerError)},
		{"account-wide rate limit", func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusTooManyRequests, nil,
				acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				lift := tt.fault(w)
				_, err := w.get("a.example.com")
				if _, ok := errors.AsType[*IssuanceError](err); !ok {
					t.Fatalf("the first visitor got %v", err)
				}
				n := w.ca.Count(acmetest.Any)
				for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
					err := w.wantErr(host, ErrCAUnavailable)
					if !errors.Is(err, ErrBackoff) {
						t.Errorf("%v does not wrap ErrBackoff", err)
					}
				}
				if d := w.ca.Count(acmetest.Any) - n; d != 0 {
					t.Errorf("%d requests to a CA that is backed off", d)
				}
				if down := w.events.of(audit.CAUnavailable); len(down) != 1 {
					t.Errorf("%d events, want 1", len(down))
				}
				lift()
				time.Sleep(66 * time.Second)
				w.mustGet("b.example.com") // the probe
				w.mustGet("a.example.com") // whose backoff it was not
				if up := w.events.of(audit.CAAvailable); len(up) != 1 {
					t.Errorf("%d events of the recovery, want 1", len(up))
				}
			})
		})
	}
}

// While the CA is backed off, visitors of hosts without a certificate have the
// cache read now and then, and not each of them.
func TestOutageCostsNoCacheReads(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		w.get("a.example.com")
		w.cache.reads()
		for range 100 {
			w.wantErr("a.example.com", ErrCAUnavailable)
		}
		if reads := w.cache.reads(); len(reads) != 0 {
			t.Errorf("%d cache reads", len(reads))
		}
	})
}

func TestBreakerCountsRegisteredDomains(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("a.example.net", "a.example.org", "b.example.org", "x.example.edu")
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Finalize}, http.StatusInternalServerError, nil, acmetest.Problem{Type: "serverInternal", Detail: "down"})
		for _, host := range []string{"a.example.org", "b.example.org", "a.example.com", "b.example.com"} {
			_, err := w.get(host) // two registered domains
			if _, ok := errors.AsType[*IssuanceError](err); !ok || errors.Is(err, ErrCAUnavailable) {
				t.Fatalf("%s: %v", host, err)
			}
		}
		w.get("a.example.net") // the third
		w.wantErr("x.example.edu", ErrCAUnavailable)
		w.wantErr("a.example.com", ErrBackoff)
	})
}

// A 429 for one host, in whatever words, backs off that host alone.
func TestRateLimitOfOneHostIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, http.StatusTooManyRequests, nil,
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates (5) already issued for "a.example.com" by this account`})
		w.get("a.example.com")
		w.wantErr("a.example.com", ErrBackoff)
		w.mustGet("b.example.com")
	})
}
