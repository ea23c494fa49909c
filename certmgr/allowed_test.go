package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// For a host that is not allowed there is no cache I/O, no CA traffic, no
// memory kept: handshakes, challenge handshakes, http-01 and renewals.
func TestHostThatIsNotAllowedCostsNothing(t *testing.T) {
	ask := map[string]func(w *world, host string) error{
		"handshake": func(w *world, host string) error { _, err := w.get(host); return err },
		"challenge handshake": func(w *world, host string) error {
			_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{"acme-tls/1"}})
			return err
		},
		"http-01": func(w *world, host string) error {
			r := httptest.NewRequest("GET", "http://"+host+challenge.Path+"token", nil)
			rec := httptest.NewRecorder()
			w.m.HTTPHandler(nil).ServeHTTP(rec, r)
			if rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), certmgr.ErrHostNotAllowed.Error()) {
				return fmt.Errorf("status %d, %q", rec.Code, rec.Body)
			}
			return certmgr.ErrHostNotAllowed
		},
		"Obtain": func(w *world, host string) error { return w.m.Obtain(context.Background(), host) },
		"Renew":  func(w *world, host string) error { return w.m.Renew(context.Background(), host) },
	}
	for name, f := range ask {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				for i := range 100 {
					if err := f(w, fmt.Sprintf("host%d.example.org", i)); !errors.Is(err, certmgr.ErrHostNotAllowed) {
						t.Fatalf("got %v, want ErrHostNotAllowed", err)
					}
				}
				if reads := w.cache.reads(); len(reads) != 0 {
					t.Errorf("cache reads for hosts that are not allowed: %q", reads)
				}
				if n := w.ca.Count(acmetest.Any); n != 0 {
					t.Errorf("%d CA requests", n)
				}
				if hosts := w.m.Snapshot().Hosts; len(hosts) != 0 {
					t.Errorf("memory kept: %+v", hosts)
				}
				if n := len(w.events.of(audit.HandshakesRefused)); n > 1 {
					t.Errorf("%d events for 100 refusals within a minute, want them coalesced into 1", n)
				}
			})
		})
	}
}

func TestNoListAndNoPolicyAllowsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = nil
		err := w.wantErr("a.example.com", certmgr.ErrHostNotAllowed)
		if !strings.Contains(err.Error(), `certmgr.MustAllowlist("a.example.com")`) {
			t.Errorf("%q does not say how to allow the host", err)
		}
	})
}

func TestRemoveEndsServiceAndRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.m.Hosts.Remove("A.example.com.")
		w.wantErr("a.example.com", certmgr.ErrHostNotAllowed)
		if dropped := w.events.of(audit.HostDropped); len(dropped) != 1 || dropped[0].Host != "a.example.com" {
			t.Errorf("events of the removal: %v", dropped)
		}
		time.Sleep(100 * 24 * time.Hour)
		w.wantOrders("a.example.com", 1)
		w.m.Hosts.Add("a.example.com")
		w.mustGet("a.example.com")
	})
}

func TestWildcardIsOneLabel(t *testing.T) {
	a := certmgr.MustAllowlist("*.example.com", "b\u00fccher.example")
	for host, want := range map[string]bool{
		"a.example.com": true, "A.EXAMPLE.COM.": true, "example.com": false, "a.b.example.com": false,
		"xn--bcher-kva.example": true, "B\u00dcCHER.example": true, "": false, "127.0.0.1": false,
	} {
		if got := a.Contains(host); got != want {
			t.Errorf("Contains(%q) = %v", host, got)
		}
	}
	if _, err := certmgr.NewAllowlist("ok.example.com", "com", "co.uk", "*.com", "10.0.0.0/8", "single", "*.*.example.com", "a b.example.com", ""); err == nil {
		t.Error("invalid entries were accepted")
	} else if n := strings.Count(err.Error(), ";"); n != 7 {
		t.Errorf("the error does not name 8 invalid entries:\n%v", err)
	}
}

func TestPolicyIsAskedOncePerTTL(t *testing.T) {
	var calls atomic.Int32
	var verdict atomic.Pointer[error]
	policy := func(ctx context.Context, host string) error {
		calls.Add(1)
		if e := verdict.Load(); e != nil {
			if errors.Is(*e, context.DeadlineExceeded) {
				<-ctx.Done()
			}
			return *e
		}
		return nil
	}
	policyWorld(t, policy, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		n := calls.Load()
		for range 100 {
			w.mustGet("a.example.com")
		}
		if calls.Load() != n {
			t.Errorf("the policy was asked %d times within PolicyTTL", calls.Load()-n)
		}
		time.Sleep(61 * time.Second)
		for range 100 {
			w.mustGet("a.example.com")
		}
		synctest.Wait()
		if calls.Load() != n+1 {
			t.Errorf("the policy was asked %d times after PolicyTTL, want once, in the background", calls.Load()-n)
		}
		// It cannot decide: nothing changes, and no handshake waits.
		failed := fmt.Errorf("database: %w", context.DeadlineExceeded)
		verdict.Store(&failed)
		time.Sleep(24 * time.Hour)
		start := time.Now()
		w.mustGet("a.example.com")
		if time.Since(start) != 0 {
			t.Error("a handshake waited for the policy")
		}
		time.Sleep(10 * time.Second)
		if e := w.events.of(audit.PolicyFailed); len(e) != 1 {
			t.Errorf("events of the policy's failure: %v", e)
		}
		// It refuses: out of service.
		no := errors.New("gone")
		verdict.Store(&no)
		time.Sleep(61 * time.Second)
		w.get("a.example.com")
		synctest.Wait()
		if _, err := w.get("a.example.com"); err != no {
			t.Errorf("got %v after a refusal", err)
		}
		if e := w.events.of(audit.HostDropped); len(e) != 1 {
			t.Errorf("events of the drop: %v", e)
		}
	})
}

// With a negative PolicyTTL each handshake has the policy asked. It refuses nothing
// when it cannot decide: its error wraps the end of a context.
func TestNegativePolicyTTLAsksEachTime(t *testing.T) {
	var calls atomic.Int32
	var fail atomic.Bool
	policy := func(context.Context, string) error {
		calls.Add(1)
		if fail.Load() {
			return fmt.Errorf("database: %w", context.DeadlineExceeded)
		}
		return nil
	}
	policyWorld(t, policy, func(t *testing.T, w *world) {
		w.m.PolicyTTL = -1
		w.mustGet("a.example.com")
		n := calls.Load()
		for range 5 {
			w.mustGet("a.example.com")
		}
		if got := calls.Load() - n; got != 5 {
			t.Errorf("the policy was asked %d times in 5 handshakes", got)
		}
		fail.Store(true)
		w.mustGet("a.example.com")
		if _, err := w.get("b.example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the policy's error", err)
		}
		if e := w.events.of(audit.HostDropped); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
		w.m.HostPolicy = func(ctx context.Context, host string) error { <-ctx.Done(); return ctx.Err() }
		w.mustGet("a.example.com") // nor did one that hangs
	})
}

func TestPolicyThatHangsOrPanicsIsBounded(t *testing.T) {
	var release chan struct{}
	policies := map[string]certmgr.HostPolicy{
		"hang":   func(context.Context, string) error { <-release; return nil },
		"panic":  func(context.Context, string) error { panic("boom") },
		"goexit": func(context.Context, string) error { runtime.Goexit(); return nil },
	}
	for name, p := range policies {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, p, func(t *testing.T, w *world) {
				release = make(chan struct{})
				defer close(release)
				start := time.Now()
				_, err := w.get("a.example.com")
				if !errors.Is(err, certmgr.ErrPolicy) || errors.Is(err, certmgr.ErrHostNotAllowed) {
					t.Errorf("got %v, want ErrPolicy", err)
				}
				if d := time.Since(start); d > policyTimeout+flight.Grace {
					t.Errorf("waited %v", d)
				}
				if name == "hang" {
					w.wantErr("a.example.com", certmgr.ErrPolicy) // not called again
				}
			})
		})
	}
}

// Below one registered domain, untrusted names are paced.
func TestStrangersNamesArePaced(t *testing.T) {
	t.Parallel()
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist()
		issued, refused := 0, 0
		for i := range 100 {
			_, err := w.get(fmt.Sprintf("scan%d.example.com", i))
			switch {
			case err == nil:
				issued++
			case errors.Is(err, certmgr.ErrBusy):
				refused++
			default:
				t.Fatal(err)
			}
		}
		if issued != pace.DomainBurst || refused != 100-pace.DomainBurst {
			t.Errorf("%d names were issued for and %d paced, want %d and %d", issued, refused, pace.DomainBurst, 100-pace.DomainBurst)
		}
		w.mustGet("www.example.org") // another registered domain
		w.m.Hosts.Add("listed.example.com")
		w.mustGet("listed.example.com") // by its exact name
		w.m.Hosts.Remove("listed.example.com")
		time.Sleep(pace.DomainEvery)
		w.mustGet("next.example.com")
	})
}

// A policy that vouches for each name is not paced, whatever it calls.
func TestVettedNamesAreNotPaced(t *testing.T) {
	t.Parallel()
	policyWorld(t, func(context.Context, string) error { return nil }, func(t *testing.T, w *world) {
		for i := range 2 * pace.DomainBurst {
			w.mustGet(fmt.Sprintf("customer%d.example.com", i))
		}
	})
}
