package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

func TestIssuedGetsWhatEntersService(t *testing.T) {
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		stored := false
		r.do(func(_ context.Context, host string) error {
			_, err := w.cache.Cache.Get(t.Context(), host)
			stored = err == nil
			return nil
		})
		w.cache.put(func(ctx context.Context, _ string) error { return flight.Sleep(ctx, patience/2) })
		first := w.mustGet("a.example.com")
		time.Sleep(patience)
		w.cache.put(nil)
		r.want(t, "issued", first)
		if !stored {
			t.Error("it was called before the certificate was in the Cache")
		}
		w.mustGet("a.example.com")
		r.want(t, "served from memory")

		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		renewed := w.mustGet("a.example.com")
		r.want(t, "renewed", renewed)

		w.restart()
		w.m.Issued = certmgr.RetryIssued(r.issued)
		w.m.Hosts = certmgr.MustAllowlist("a.example.com")
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want(t, "loaded by Start", renewed)

		other := w.manager()
		defer other.Close()
		w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig()})
		time.Sleep(time.Hour)
		if err := other.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		r.want(t, "renewed by another machine")
		if err := certmgr.Load(t.Context(), w.m, "a.example.com", 0); err != nil {
			t.Fatal(err)
		}
		r.want(t, "found in the Cache", w.mustGet("a.example.com"))
	})
}

// A certificate that is in service is delivered, whatever becomes of its entry.
func TestIssuedWithoutCache(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"no cache": func(w *world) { w.m.Cache = nil },
		"put fails": func(w *world) {
			w.cache.put(func(_ context.Context, key string) error {
				if key == "a.example.com" {
					return errors.New("read-only")
				}
				return nil
			})
		},
		"put hangs": func(w *world) {
			w.cache.put(func(_ context.Context, key string) error {
				if key == "a.example.com" {
					w.cache.hang()
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
				fail(w)
				cert := w.mustGet("a.example.com")
				time.Sleep(patience)
				r.want(t, name, cert)
			})
		})
	}
}

// The certificate is the callee's own.
func TestIssuedMayChangeItsCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Issued = func(_ context.Context, cert *tls.Certificate) {
			for i := range cert.Certificate {
				cert.Certificate[i] = nil
			}
			cert.Certificate = append(cert.Certificate[:1], []byte("mine"))
			cert.PrivateKey, cert.Leaf = nil, nil
		}
		w.mustGet("a.example.com")
		synctest.Wait()
		cert := w.mustGet("a.example.com")
		for _, der := range cert.Certificate {
			if len(der) < 100 {
				t.Errorf("the chain that is served has %q", der)
			}
		}
		if cert.PrivateKey == nil {
			t.Error("the key is gone")
		}
	})
}

// A call that takes its time delays neither handshakes nor other hosts. What is
// renewed several times meanwhile is delivered once, and nothing that has left
// the list.
func TestSlowIssued(t *testing.T) {
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		r.do(func(ctx context.Context, host string) error {
			if host != "b.example.com" {
				return flight.Sleep(ctx, 50*time.Second)
			}
			return nil
		})
		begun := time.Now()
		first := w.mustGet("a.example.com")
		for range 3 {
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
		}
		b, c := w.mustGet("b.example.com"), w.mustGet("c.example.com")
		if d := time.Since(begun); d > 10*time.Second {
			t.Fatalf("issuances took %v", d)
		}
		r.want(t, "meanwhile", first, b, c)
		w.mustGet("c.example.com")
		if err := w.m.Renew(t.Context(), "c.example.com"); err != nil {
			t.Fatal(err)
		}
		w.m.Hosts.Remove("c.example.com")
		time.Sleep(time.Minute)
		r.want(t, "afterwards", w.mustGet("a.example.com"))
		if r.twice {
			t.Error("two calls for one host ran at the same time")
		}
		if e := w.events.of(audit.DeliveryFailed); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// The certificates of one host take turns, and none uses up its time while it
// waits.
func TestIssuedForBothKeyTypes(t *testing.T) {
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		r.do(func(ctx context.Context, _ string) error { return flight.Sleep(ctx, 50*time.Second) })
		ecdsa, rsa := w.mustGet("a.example.com"), w.mustGetRSA()
		r.want(t, "at first", ecdsa)
		time.Sleep(50 * time.Second)
		r.want(t, "after the first call", rsa)
		time.Sleep(5 * time.Minute)
		r.want(t, "afterwards")
		if e := w.events.of(audit.DeliveryFailed); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// However a call fails, it is an event and repeated, with the newest
// certificate, until it succeeds. Handshakes are served meanwhile.
func TestFailingIssued(t *testing.T) {
	broken := errors.New("no space left on device")
	for name, test := range map[string]struct {
		fail func(ctx context.Context) error
		want error
		took time.Duration
	}{
		"error":     {fail: func(context.Context) error { return broken }, want: broken},
		"panic":     {fail: func(context.Context) error { panic("boom") }, want: flight.ErrPanic},
		"Goexit":    {fail: func(context.Context) error { runtime.Goexit(); return nil }, want: flight.ErrPanic},
		"bad error": {fail: func(context.Context) error { return &brokenError{} }, want: flight.ErrPanic},
		"late": {
			fail: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
			want: context.DeadlineExceeded,
			took: time.Minute,
		},
		"ignores its context": {
			fail: func(context.Context) error { time.Sleep(2 * time.Minute); return nil },
			want: context.DeadlineExceeded,
			took: 2 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
				r.do(func(ctx context.Context, host string) error {
					if host == "a.example.com" {
						return test.fail(ctx)
					}
					return nil
				})
				w.mustGet("a.example.com")
				time.Sleep(4 * time.Hour)
				w.mustGet("a.example.com")
				r.mu.Lock()
				waits := []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, time.Hour}
				for i, wait := range waits {
					if d := r.at[i+1].Sub(r.at[i]) - test.took; d < wait*8/10 || d > wait*12/10 {
						t.Errorf("call %d came %v after the last one, want %v", i+2, d, wait)
					}
				}
				r.mu.Unlock()
				failed := w.events.of(audit.DeliveryFailed)
				if len(failed) < 4 {
					t.Fatalf("%d events", len(failed))
				}
				for _, e := range failed {
					if e.Host != "a.example.com" || !errors.Is(e.Err, test.want) || !e.IsFailure() || e.Serial == "" || !e.RetryAt.After(e.Time) {
						t.Errorf("event: %v", e)
					}
				}
				if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Minute)
				r.take()
				r.do(nil)
				time.Sleep(2 * time.Hour)
				r.want(t, "at last", w.mustGet("a.example.com"))
				if e := w.events.of(audit.DeliveryRecovered); len(e) != 1 || e[0].Host != "a.example.com" {
					t.Errorf("events: %v", e)
				}
			})
		})
	}
}

// A call that does not return keeps its place and its host's turn, and no more.
// Close names it.
func TestHungIssued(t *testing.T) {
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		hang := make(chan struct{})
		r.do(func(_ context.Context, host string) error {
			if host == "a.example.com" {
				<-hang
			}
			return nil
		})
		first := w.mustGet("a.example.com")
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		r.want(t, "hung", first)
		if e := w.events.of(audit.DeliveryFailed); len(e) != 1 || !strings.Contains(e[0].Err.Error(), "did not return") {
			t.Errorf("events: %v", e)
		}
		r.want(t, "another host", w.mustGet("b.example.com"))
		if err := w.m.Close(); err == nil || !strings.Contains(err.Error(), `Issued have not returned: ["a.example.com"]`) {
			t.Errorf("Close: %v", err)
		}
		close(hang)
	})
}

// Close ends the context of calls, with ErrClosed as the cause, and begins no
// more. The next process delivers.
func TestCloseEndsIssued(t *testing.T) {
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		var cause error
		r.do(func(ctx context.Context, _ string) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		})
		cert := w.mustGet("a.example.com")
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := w.m.Close(); err != nil || time.Since(begun) != 0 {
			t.Errorf("Close took %v: %v", time.Since(begun), err)
		}
		if !errors.Is(cause, certmgr.ErrClosed) {
			t.Errorf("the context ended with %v", cause)
		}
		r.want(t, "before Close", cert)
		if e := w.events.of(audit.DeliveryFailed); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// isUnlucky picks one of ten hosts.
func isUnlucky(host string) bool {
	return strings.HasSuffix(strings.TrimSuffix(host, ".example.com"), "7")
}

// A Start with a warm cache loads as many hosts as there are. Few calls run at
// the same time, also if many fail, and each host gets one.
func TestIssuedAfterAStartWithManyHosts(t *testing.T) {
	const n = 400
	hosts, ca, warm := benchHosts(n), newTestCA(), new(cache.Memory)
	for _, host := range hosts {
		warm.Put(t.Context(), host, ca.bundle(leafFor(host)))
	}
	inIssuedBubble(t, func(t *testing.T, w *world, r *receiver) {
		r.do(func(_ context.Context, host string) error {
			time.Sleep(time.Second)
			if isUnlucky(host) {
				return errors.New("no")
			}
			return nil
		})
		w.m.Cache, w.m.Hosts = warm, certmgr.MustAllowlist(hosts...)
		before := runtime.NumGoroutine()
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 100 {
			t.Errorf("%d goroutines", n)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		r.mu.Lock()
		calls := make(map[string]int)
		for _, host := range r.hosts {
			calls[host]++
		}
		if r.most > 8 || r.twice {
			t.Errorf("%d calls ran at the same time, some of them for one host: %v", r.most, r.twice)
		}
		r.mu.Unlock()
		for _, host := range hosts {
			if c := calls[host]; c == 0 || c > 1 != isUnlucky(host) {
				t.Errorf("%d calls for %s", c, host)
			}
		}
	})
}

// Hosts that strangers made up wait for their calls only as long as they are in
// memory.
func TestWaitingDeliveriesAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hang := make(chan struct{})
		defer close(hang)
		w.m.Issued = func(context.Context, *tls.Certificate) { <-hang }
		w.m.Hosts, w.m.HostPolicy, w.m.Cache = nil, certmgr.AllowAnyHost, new(cache.Memory)
		certmgr.LimitStrangers(w.m, 50)
		certmgr.DeliverMadeUp(w.m, 10_000)
		if n := certmgr.WaitingDeliveries(w.m); n > 2100 {
			t.Errorf("%d wait, with 50 hosts in memory", n)
		}
	})
}

// RetryIssued is of use outside a Manager too: nothing is swallowed.
func TestRetryIssuedWithoutManager(t *testing.T) {
	log := quietLog(t)
	certmgr.RetryIssued(func(context.Context, *tls.Certificate) error { return fmt.Errorf("no disk\nat all") })(t.Context(), nil)
	if s := log.String(); !strings.Contains(s, "no disk") || strings.Count(s, "\n") != 1 {
		t.Errorf("the log has %q", s)
	}
}
