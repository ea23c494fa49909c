package certmgr_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// The breaker: the CA as a whole is backed off once.
func TestCAThatFailsIsBackedOffOnce(t *testing.T) {
	status := func(e acmetest.Endpoint, code int) func(*world) func() {
		return func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: e}, code, nil, acmetest.Problem{Type: "serverInternal", Detail: "down"}).Lift
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
				acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"}).Lift
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = time.Minute // a rate limit is tried once more after 5 to 10 s
				lift := tt.fault(w)
				_, err := w.get("a.example.com")
				if _, ok := errors.AsType[*certmgr.IssuanceError](err); !ok {
					t.Fatalf("the first visitor got %v", err)
				}
				n := w.ca.Count(acmetest.Any)
				for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
					err := w.wantErr(host, certmgr.ErrCAUnavailable)
					if !errors.Is(err, certmgr.ErrBackoff) {
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

// While the CA is backed off, handshakes for hosts without a certificate
// trigger a cache read now and then, but not each of them.
func TestOutageCostsNoCacheReads(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		w.get("a.example.com")
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		for range 100 {
			w.wantErr("a.example.com", certmgr.ErrCAUnavailable)
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
			if _, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || errors.Is(err, certmgr.ErrCAUnavailable) {
				t.Fatalf("%s: %v", host, err)
			}
		}
		w.get("a.example.net") // the third
		w.wantErr("x.example.edu", certmgr.ErrCAUnavailable)
		w.wantErr("a.example.com", certmgr.ErrBackoff)
	})
}

// A 429 for one host, in whatever words, backs off that host alone.
func TestRateLimitOfOneHostIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = time.Minute // the order is tried twice
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, http.StatusTooManyRequests, nil,
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates (5) already issued for "a.example.com" by this account`})
		w.get("a.example.com")
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		w.mustGet("b.example.com")
	})
}

// Those that were under way when the CA failed do not make it fail for longer.
func TestCallsUnderWayDoNotLengthenAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		hosts := []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}
		w.m.Hosts.Add("d2.example.com")
		w.m.Obtain(t.Context(), "d.example.com")
		for i, host := range hosts[:3] {
			m := acmetest.Match{Endpoint: acmetest.NewOrder, Host: host}
			w.ca.Delay(m, time.Duration(1+10*i)*time.Second)
			w.ca.Status(m, http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}},
				acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
			w.get(host)
		}
		time.Sleep(5 * time.Second)
		const once = "(failure 1 in a row)"
		until := w.m.Snapshot().CAUnavailable
		if err := w.wantErr("d2.example.com", certmgr.ErrCAUnavailable); until.IsZero() || !strings.Contains(certmgr.InFull(err).Error(), once) {
			t.Fatalf("after the first answer: %v, want one failure", err)
		}
		time.Sleep(30 * time.Second)
		if err := w.wantErr("d2.example.com", certmgr.ErrCAUnavailable); !strings.Contains(certmgr.InFull(err).Error(), once) {
			t.Errorf("the other answers count as more: %v", err)
		}
		if later := w.m.Snapshot().CAUnavailable; !later.Equal(until) {
			t.Errorf("the other answers moved the next attempt by %v", later.Sub(until))
		}
		if e := w.events.of(audit.CAUnavailable); len(e) != 1 {
			t.Errorf("%d events, want 1: %v", len(e), e)
		}
	})
}

// The breaker's probe is let go, so that another host can be the next one.
func TestCanceledProbeLeavesTheBreakerToOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, nil, acmetest.Problem{})
		w.get("a.example.com")
		w.wantErr("b.example.com", certmgr.ErrCAUnavailable)
		fault.Lift()
		time.Sleep(time.Until(w.m.Snapshot().CAUnavailable) + time.Second)
		stall := w.ca.Stall(acmetest.Match{})
		outcome := make(chan error, 1)
		go func() { _, err := w.get("c.example.com"); outcome <- err }()
		time.Sleep(time.Second)
		w.m.Hosts.Remove("c.example.com")
		wantCanceled(t, outcome)
		stall.Lift()
		w.mustGet("d.example.com")
	})
}

// A host that is limited on its own account, for a day, and happens to be the probe,
// closes the breaker: the CA answered, and the others need not wait with it.
func TestProbeLimitedByItsHostClosesTheBreaker(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("d.example.com")
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewNonce}, 503, nil, acmetest.Problem{Type: "serverInternal"})
		limited := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, nil, acmetest.Problem{Type: "rateLimited", Detail: "too many new orders from this account"})
		w.get("b.example.com") // breaker opens
		w.wantErr("c.example.com", certmgr.ErrCAUnavailable)
		fault.Lift()
		limited.Lift() // the CA is well again
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"86400"}},
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates already issued for "a.example.com"`})
		time.Sleep(70 * time.Second)
		_, err := w.get("a.example.com") // the probe
		t.Log(err)
		time.Sleep(2 * time.Hour)
		w.mustGet("c.example.com")
	})
}

// What Close cuts short says nothing about the CA.
func TestCloseIsNoOutageOfTheCA(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewAccount})
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.m.Close()
		if e := w.events.of(audit.CAUnavailable); len(e) != 0 {
			t.Errorf("%v", e)
		}
	})
}
