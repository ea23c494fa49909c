package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/flight"
)

// almost is a call that takes as long as it may: its time-out, and the grace of 100 ms
// for those that return their own error.
const almost = 5*time.Second + 99*time.Millisecond

// Whatever is slow, and however slow: what a handshake waits for takes HandshakeWait in
// all, or 6 s if that is negative. docs/architecture.md says so.
func TestNoHandshakeTakesLongerThanItsBound(t *testing.T) {
	t.Parallel()
	const hangs, atOnce = -1, 0
	rsaOnly := []tls.SignatureScheme{tls.PSSWithSHA256} // one certificate is read, and two failures
	for _, policy := range []time.Duration{atOnce, 3 * time.Second, almost, hangs} {
		for _, read := range []time.Duration{atOnce, time.Second, almost, hangs} {
			for _, wait := range []time.Duration{-1, 10 * time.Second, 500 * time.Millisecond, 25 * time.Second} {
				for _, schemes := range [][]tls.SignatureScheme{nil, rsaOnly} {
					if schemes != nil && policy != atOnce {
						continue
					}
					t.Run(fmt.Sprintf("policy %v, read %v, HandshakeWait %v, RSA alone %v", policy, read, wait, schemes != nil), func(t *testing.T) {
						inBubble(t, func(t *testing.T, w *world) {
							w.m.HandshakeWait = wait
							w.m.HostPolicy = func(context.Context, string) error { w.take(policy); return nil }
							if err := w.m.Obtain(t.Context(), "b.example.com"); err != nil { // for the account
								t.Fatal(err)
							}
							w.cache.get(func(context.Context, string) error { w.take(read); return certmgr.ErrCacheMiss })
							w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) // for 30 s
							most := wait
							if wait < 0 {
								most = 6 * time.Second
							}
							want := most
							switch {
							case policy == hangs:
								want = cacheTimeout + flight.Grace
							case read == hangs:
								want = policy + cacheTimeout + flight.Grace
							case wait < 0:
								want = policy + 3*read
							}
							start := time.Now()
							_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "z.example.com", SignatureSchemes: schemes})
							if took := time.Since(start); took != min(want, most) || err == nil {
								t.Errorf("it took %v, want %v: %v", took, min(want, most), err)
							}
							w.cache.get(nil)
							w.cache.release()
							time.Sleep(time.Minute) // for what ignores its context
						})
					})
				}
			}
		}
	}
}

// take takes d, or until the world's cache is released if that is negative. It
// ignores the end of its context.
func (w *world) take(d time.Duration) {
	if d < 0 {
		w.cache.hang()
		return
	}
	time.Sleep(d)
}

// A handshake that finds an issuance in flight waits InFlightWait for it, within the
// bound on all that it waits for.
func TestInFlightWaitIsPartOfTheBound(t *testing.T) {
	tests := []struct {
		policy, handshakeWait, inFlightWait, want time.Duration
	}{
		{0, 10 * time.Second, 0, 0},
		{0, 10 * time.Second, 3 * time.Second, 3 * time.Second},
		{4 * time.Second, 10 * time.Second, 3 * time.Second, 7 * time.Second},
		{4 * time.Second, 10 * time.Second, 0, 4 * time.Second},
		{4 * time.Second, 10 * time.Second, time.Hour, 10 * time.Second},
		{4 * time.Second, -1, 3 * time.Second, 6 * time.Second},
		{0, -1, time.Hour, 6 * time.Second},
		{0, time.Second, time.Hour, time.Second},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HostPolicy = func(context.Context, string) error { time.Sleep(tt.policy); return nil }
				w.m.HandshakeWait, w.m.InFlightWait = tt.handshakeWait, tt.inFlightWait
				w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
				go w.get("z.example.com")
				time.Sleep(tt.policy + time.Millisecond)
				start := time.Now()
				_, err := w.get("z.example.com")
				if took := time.Since(start); took != tt.want || !errors.Is(err, certmgr.ErrInFlight) {
					t.Errorf("it took %v, want %v: %v", took, tt.want, err)
				}
			})
		})
	}
}

// What a handshake could not wait for goes on without it: the next one is served from
// memory, however slow policy, cache and CA are, and although each visitor is alone.
func TestWhatHasBegunServesTheNextVisitor(t *testing.T) {
	type slow struct {
		policy, read  time.Duration
		handshakeWait time.Duration // 0: the client leaves after 1 s
		stored        bool          // the cache has a certificate
		sentinel      error
		text          string
	}
	for name, tt := range map[string]slow{
		"policy":                        {2 * time.Second, 0, 500 * time.Millisecond, false, certmgr.ErrPolicy, "no answer within 500ms"},
		"policy, certificate in cache":  {2 * time.Second, 0, 500 * time.Millisecond, true, certmgr.ErrPolicy, "no answer within 500ms"},
		"cache":                         {0, 2 * time.Second, 500 * time.Millisecond, false, certmgr.ErrCache, "no answer within 500ms"},
		"cache, certificate in it":      {0, 2 * time.Second, 500 * time.Millisecond, true, certmgr.ErrCache, "no answer within 500ms"},
		"both":                          {4 * time.Second, 4900 * time.Millisecond, -1, false, certmgr.ErrCache, "no answer within 2s"},
		"both, certificate in cache":    {4 * time.Second, 4900 * time.Millisecond, -1, true, certmgr.ErrCache, "no answer within 2s"},
		"policy, and the client leaves": {2 * time.Second, 0, 0, false, context.DeadlineExceeded, "deadline exceeded"},
		"cache, and the client leaves":  {0, 2 * time.Second, 0, false, context.DeadlineExceeded, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = tt.handshakeWait
				w.m.HostPolicy = func(ctx context.Context, _ string) error { return flight.Sleep(ctx, tt.policy) }
				if tt.stored {
					w.keep("z.example.com", entryFor("z.example.com", 0, undue))
				}
				w.cache.slowFor("z.example.com", tt.read)
				ctx, cancel := context.WithCancel(t.Context())
				if tt.handshakeWait == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				}
				defer cancel()
				err := w.handshake(ctx, "z.example.com")
				if !errors.Is(err, tt.sentinel) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("the first visitor got %v, want %q", err, tt.text)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				w.wantHot("z.example.com")
				if tt.stored {
					w.wantOrders("z.example.com", 0)
				} else {
					w.wantOrders("z.example.com", 1)
				}
			})
		})
	}
}

// wantHot checks that a host is served at once.
func (w *world) wantHot(host string) {
	w.t.Helper()
	start := time.Now()
	w.mustGet(host)
	if took := time.Since(start); took != 0 {
		w.t.Errorf("%s was served after %v", host, took)
	}
}
