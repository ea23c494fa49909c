package certmgr

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// No reply of a CA makes a loop, holds an attempt for longer than its bound,
// or harms another host.
func TestHostileRepliesAreBounded(t *testing.T) {
	host := acmetest.Match{Host: "a.example.com"}
	at := func(e acmetest.Endpoint) acmetest.Match { return acmetest.Match{Endpoint: e, Host: "a.example.com"} }
	tests := []struct {
		name  string
		fault func(ca *acmetest.Server)
		most  int // requests for the host in an hour, with a visitor a second
		stage audit.Stage
	}{
		{"order invalid at once", func(ca *acmetest.Server) { ca.InvalidOrder("a.example.com") }, 5, audit.StageOrder},
		{"stuck processing", func(ca *acmetest.Server) { ca.StuckProcessing("a.example.com") }, 200, audit.StageFinalize},
		{"stuck processing, Retry-After in the past", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "Mon, 02 Jan 2006 15:04:05 GMT")
		}, 200, audit.StageFinalize},
		{"stuck processing, Retry-After negative", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "-1")
		}, 200, audit.StageFinalize},
		{"stuck processing, Retry-After absurd", func(ca *acmetest.Server) {
			ca.StuckProcessing("a.example.com")
			ca.RetryAfter(acmetest.Order, "86400000")
		}, 200, audit.StageFinalize},
		{"newOrder stalls", func(ca *acmetest.Server) { ca.Stall(at(acmetest.NewOrder)) }, 5, audit.StageOrder},
		{"everything stalls", func(ca *acmetest.Server) { ca.Stall(host) }, 5, audit.StageOrder},
		{"connections drop", func(ca *acmetest.Server) { ca.Drop(host) }, 5, audit.StageOrder},
		{"garbage", func(ca *acmetest.Server) { ca.Garbage(at(acmetest.Authorization)) }, 20, audit.StageAuthorization},
		{"endless bodies", func(ca *acmetest.Server) { ca.EndlessBody(host) }, 5, audit.StageOrder},
		{"500", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusInternalServerError, nil, acmetest.Problem{Type: "serverInternal"})
		}, 20, audit.StageOrder},
		{"429 with an absurd Retry-After", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusTooManyRequests, http.Header{"Retry-After": {"999999999"}}, acmetest.Problem{Type: "rateLimited", Detail: "a.example.com"})
		}, 1, audit.StageOrder},
		{"429 with a Retry-After in the past", func(ca *acmetest.Server) {
			ca.Status(host, http.StatusTooManyRequests, http.Header{"Retry-After": {"-5"}}, acmetest.Problem{Type: "rateLimited", Detail: "a.example.com"})
		}, 4, audit.StageOrder},
		{"foreign name", func(ca *acmetest.Server) {
			ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example.com"}; c.Subject.CommonName = "" })
		}, 30, audit.StageFinalize},
		{"foreign key", func(ca *acmetest.Server) { ca.WrongKey("a.example.com") }, 30, audit.StageFinalize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = 4 * time.Minute
				w.mustGet("b.example.com")
				tt.fault(w.ca)
				begin := time.Now()
				_, err := w.get("a.example.com")
				if d := time.Since(begin); d > attemptTimeout+time.Second {
					t.Errorf("the attempt took %v", d)
				}
				issue, ok := errors.AsType[*IssuanceError](err)
				if !ok || issue.Stage != tt.stage {
					t.Errorf("got %v, want an *IssuanceError at stage %q", err, tt.stage)
				}
				w.m.HandshakeWait = -1
				for time.Since(begin) < time.Hour {
					w.get("a.example.com")
					time.Sleep(time.Second)
				}
				if n := w.ca.CountHost(acmetest.Any, "a.example.com"); n > tt.most {
					t.Errorf("%d requests for the host in an hour, want %d at most", n, tt.most)
				}
				w.m.HandshakeWait = 0
				w.mustGet("b.example.com")
				w.mustGet("c.example.com")
			})
		})
	}
}

// Each certificate of a chain has to be signed by the next one.
func TestChainThatDoesNotFitIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		other := acmetest.NewMemoryServer()
		defer other.Close()
		chain := w.mustGet("a.example.com").Certificate
		w.m.Close()
		w.m = w.manager()
		w.m.Cache = nil
		w.m.Client = &acme.Client{DirectoryURL: other.URL, HTTPClient: other.Client()}
		other.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		foreign := w.mustGet("a.example.com").Certificate
		if err := bundle.CheckChain(chain); err != nil {
			t.Errorf("a sound chain: %v", err)
		}
		if err := bundle.CheckChain([][]byte{chain[0], foreign[1]}); err == nil {
			t.Error("a chain with another CA's intermediate was accepted")
		}
	})
}

// A validation that never comes to an end is given up, deactivated, and the
// reason says what was seen.
func TestPendingAuthorizationsAreDeactivated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = 4 * time.Minute
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge, Host: "a.example.com"})
		_, err := w.get("a.example.com")
		if _, ok := errors.AsType[*IssuanceError](err); !ok {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, status := range w.ca.Authorizations("a.example.com") {
			if status != acme.StatusDeactivated {
				t.Errorf("an authorization was left %q", status)
			}
		}
	})
}

// A certificate costs 7 requests at most once there is an account, and comes
// about as fast as the CA.
func TestRequestsForACertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		n := w.ca.Count(acmetest.Any)
		start := time.Now()
		w.mustGet("b.example.com")
		if got := w.ca.Count(acmetest.Any) - n; got > 7 {
			t.Errorf("%d requests for a certificate, want 7 at most", got)
		}
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("a CA that validates at once had the visitor wait %v", d)
		}
	})
}

func TestFirstAttemptTriesBothChallengesLaterOnesOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		handler := w.m.HTTPHandler(nil)
		w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig(), HTTPHandler: handler})
		lift := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "nobody home"})
		_, err := w.get("a.example.com")
		for _, typ := range []string{tlsALPN01, http01} {
			if !strings.Contains(err.Error(), typ) {
				t.Errorf("%q does not have the cause of %s", err, typ)
			}
		}
		w.wantOrders("a.example.com", 2)
		time.Sleep(2 * time.Minute)
		w.get("a.example.com")
		w.wantOrders("a.example.com", 3)
		lift()
		w.ca.FailValidation("a.example.com", tlsALPN01, acmetest.Problem{Type: "unauthorized", Detail: "nobody home"})
		time.Sleep(20 * time.Minute)
		w.get("a.example.com")
		time.Sleep(2 * time.Hour)
		w.mustGet("a.example.com") // one of two attempts takes http-01
		n := w.orders("a.example.com")
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Errorf("renewal did not begin with the type that last worked: %v", err)
		}
		w.wantOrders("a.example.com", n+1)
	})
}

func TestForgottenNextProtosIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		config := w.m.TLSConfig()
		config.NextProtos = []string{"h2", "http/1.1"}
		w.ca.Resolve("*", acmetest.Target{TLSConfig: config})
		_, err := w.get("a.example.com")
		if err == nil || !strings.Contains(err.Error(), `NextProtos hold "acme-tls/1"`) {
			t.Errorf("%v does not say what to look at", err)
		}
		events := w.events.of(audit.ChallengeFailed)
		if len(events) != 1 || !strings.Contains(events[0].Reason, "NextProtos") {
			t.Errorf("events: %v", events)
		}
	})
}

// The challenge's answer goes through the Cache: another machine may be the
// one that the CA reaches.
func TestAnotherMachineAnswersTheChallenge(t *testing.T) {
	for _, typ := range []string{tlsALPN01, http01} {
		t.Run(typ, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				other := w.manager()
				defer other.Close()
				w.m.HTTPHandler(nil)
				w.ca.Challenges = nil
				target := acmetest.Target{TLSConfig: other.TLSConfig()}
				if typ == http01 {
					target = acmetest.Target{HTTPHandler: other.HTTPHandler(nil)}
				}
				w.ca.Resolve("*", target)
				w.mustGet("a.example.com")
				time.Sleep(time.Second)
				w.cache.mu.Lock()
				defer w.cache.mu.Unlock()
				for _, key := range w.cache.puts {
					if !strings.HasSuffix(key, "+token") && !strings.HasSuffix(key, "+http-01") {
						continue
					}
					if _, err := w.cache.Cache.Get(t.Context(), key); !errors.Is(err, ErrCacheMiss) {
						t.Errorf("the answer under %q was left behind", key)
					}
				}
			})
		})
	}
}

// A clock that is wrong: the certificate is kept, the clock is named, nothing
// is ordered again.
func TestWrongClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"a year behind": -365 * day, "a year ahead": 365 * day} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var wrong atomic.Int64
				wrong.Store(int64(off))
				clock := func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
				w.m.clock = clock
				_, err := w.get("a.example.com")
				if off < 0 && err != nil {
					t.Errorf("behind, it can be served: %v", err)
				}
				if off > 0 && !errors.Is(err, ErrClock) {
					t.Errorf("got %v, want ErrClock", err)
				}
				if e := w.events.of(audit.ClockOff); len(e) != 1 {
					t.Errorf("events: %v", e)
				}
				for range 10 {
					time.Sleep(day)
					w.get("a.example.com")
				}
				w.wantOrders("a.example.com", 1)
				w.m.Close()
				w.m = w.manager()
				w.m.clock = clock
				w.reach()
				time.Sleep(time.Hour)
				w.get("a.example.com")
				w.wantOrders("a.example.com", 1) // nor after a restart
				wrong.Store(0)
				time.Sleep(10 * time.Second)
				w.get("a.example.com") // has the cache looked at again
				synctest.Wait()
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}
