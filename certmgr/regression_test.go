package certmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// one host whose own 429 (Retry-After 24 h) makes it the probe closes the CA for everybody.
func TestProbeLimitedByItsHostClosesTheBreaker(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("d.example.com")
		lift := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewNonce}, 503, nil, acmetest.Problem{Type: "serverInternal"})
		lift2 := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, nil, acmetest.Problem{Type: "rateLimited", Detail: "too many new orders from this account"})
		w.get("b.example.com") // breaker opens
		w.wantErr("c.example.com", ErrCAUnavailable)
		lift()
		lift2() // the CA is well again
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"86400"}},
			acmetest.Problem{Type: "rateLimited", Detail: `too many certificates already issued for "a.example.com"`})
		time.Sleep(70 * time.Second)
		_, err := w.get("a.example.com") // the probe
		t.Log(err)
		time.Sleep(2 * time.Hour)
		w.mustGet("c.example.com")
	})
}

// the record of a machine whose clock was ahead holds all others back.
func TestClockOffIsForgottenByHealthyMachines(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.clock = func() time.Time { return time.Now().Add(365 * day) }
		_, err := w.get("a.example.com")
		t.Log(err)
		time.Sleep(time.Second)
		w.m.Close()
		time.Sleep(100 * day) // its certificate really is over
		w.m = w.manager()     // a machine with the right clock
		w.reach()
		w.mustGet("a.example.com")
	})
}

// Add of one host shortens the backoff of all others.
func TestAddShortensNoOtherHostsBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		for range 3 {
			w.get("a.example.com")
			time.Sleep(11*time.Minute + 30*time.Second)
		}
		n := w.orders("a.example.com")
		w.wantErr("a.example.com", ErrBackoff)
		w.m.Hosts.Add("new-customer.example.org")
		w.get("a.example.com")
		w.wantOrders("a.example.com", n)
	})
}

// the Retry-After of a 429 for the second order is lost behind the first challenge's error.
func TestRetryAfterOfTheSecondOrderCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HTTPHandler(nil)
		w.ca.FailValidation("a.example.com", tlsALPN01, acmetest.Problem{Type: "dns", Detail: "no"})
		go func() {
			for w.orders("a.example.com") == 0 {
				time.Sleep(time.Millisecond)
			}
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, 429, http.Header{"Retry-After": {"36000"}},
				acmetest.Problem{Type: "rateLimited", Detail: `too many failed authorizations for "a.example.com"`})
		}()
		_, err := w.get("a.example.com")
		e, ok := errors.AsType[*IssuanceError](err)
		if !ok {
			t.Fatal(err)
		}
		if d := e.RetryAt.Sub(e.Time); d < 10*time.Hour {
			t.Errorf("next attempt after %v, the CA asked for 10 h: %v", d, err)
		}
	})
}

// an expired certificate is served if it was issued later than the valid one in the cache.
func TestExpiredInMemoryGivesWayToValidInCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		lift := w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(5 * day) })
		w.mustGet("a.example.com")
		lift()
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		time.Sleep(6 * day)
		w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", time.Now().Add(-20*day), time.Now().Add(70*day)))
		time.Sleep(time.Minute)
		for range 3 {
			c, err := w.get("a.example.com")
			if err == nil && time.Now().After(c.Leaf.NotAfter) {
				t.Errorf("served a certificate that expired at %v, now is %v", c.Leaf.NotAfter, time.Now())
			}
			synctest.Wait()
		}
	})
}

// a policy of the user's that allows everything: nothing bounds the queue.
func TestUsersAllowAllIsBounded(t *testing.T) {
	policyWorld(t, func(context.Context, string) error { return nil }, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "x.example.com"})
		g := runtime.NumGoroutine()
		for i := range 5000 {
			w.get(fmt.Sprintf("www.stranger%d.com", i))
		}
		synctest.Wait()
		s := w.m.Snapshot()
		if s.Queued > maxUnlisted {
			t.Errorf("%d issuances queued, %d goroutines more", s.Queued, runtime.NumGoroutine()-g)
		}
	})
}

// a crash loop during an account-wide rate limit.
func TestCrashLoopDuringAnOutageLeavesTheCAAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("d.example.com")
		n := w.ca.Count(acmetest.NewOrder)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, http.Header{"Retry-After": {"3600"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
		for range 10 {
			w.restart()
			w.get("a.example.com")
			time.Sleep(5 * time.Second)
		}
		if d := w.ca.Count(acmetest.NewOrder) - n; d > 1 {
			t.Errorf("%d orders in 10 restarts within 50 s, the CA said Retry-After: 3600", d)
		}
	})
}

// R7b: a crash loop while a renewal fails.
func TestCrashLoopWithFailingRenewalLeavesTheCAAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "moved"})
		time.Sleep(65 * day)
		n := w.orders("a.example.com")
		t.Log("orders by the first process", n-1)
		for range 20 {
			w.restart()
			w.mustGet("a.example.com")
			time.Sleep(10 * time.Second)
		}
		if d := w.orders("a.example.com") - n; d > 1 {
			t.Errorf("%d failing orders in 20 restarts within 200 s", d)
		}
	})
}

// without a cache, a policy whose backend fails once costs a certificate.
func TestPolicyThatChangesItsMindCostsNoOrder(t *testing.T) {
	var down atomic.Bool
	policyWorld(t, func(context.Context, string) error {
		if down.Load() {
			return errors.New("dial tcp 10.0.0.5:5432: connect: connection refused")
		}
		return nil
	}, func(t *testing.T, w *world) {
		w.m.Cache = nil
		w.mustGet("a.example.com")
		for range 5 {
			time.Sleep(2 * time.Minute)
			down.Store(true)
			w.get("a.example.com")
			time.Sleep(time.Second)
			down.Store(false)
			w.get("a.example.com")
			time.Sleep(time.Second)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// Close makes an event that the CA is down.
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

// challenge certificates are shared with the caller.
func TestChallengeCertificateIsTheCallersOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge})
		w.get("a.example.com")
		time.Sleep(time.Second)
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{"acme-tls/1"}}
		c, err := w.m.GetCertificate(hello)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificate = append(c.Certificate, []byte("mine"))
		c2, _ := w.m.GetCertificate(hello)
		if len(c2.Certificate) != 1 {
			t.Errorf("the next handshake got a chain of %d", len(c2.Certificate))
		}
	})
}

// Close accuses Audit.
func TestCloseNamesOnlyWhoDidNotReturn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
		go w.get("a.example.com")
		time.Sleep(time.Second)
		err := w.m.Close()
		w.cache.release()
		if err == nil || strings.Contains(err.Error(), "Audit") {
			t.Errorf("%v", err)
		}
	})
}

// strangers' http-01 tokens use up the places for certificate reads.
func TestTokensUseUpNoReadsOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		w.restart()
		w.cache.get(func(ctx context.Context, key string) error {
			if strings.HasSuffix(key, "+http-01") {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		h := w.m.HTTPHandler(nil)
		var wg sync.WaitGroup
		for i := range maxReads + 10 {
			wg.Go(func() {
				r, _ := http.NewRequest("GET", fmt.Sprintf("http://a.example.com/.well-known/acme-challenge/tok%d", i), nil)
				h.ServeHTTP(nopWriter{}, r)
			})
		}
		synctest.Wait()
		if _, err := w.get("b.example.com"); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

type nopWriter struct{}

func (nopWriter) Header() http.Header         { return http.Header{} }
func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) WriteHeader(int)             {}

// failure records of strangers stay in the cache for ever.
func TestStrangersLeaveNoRecordsInTheCache(t *testing.T) {
	policyWorld(t, AllowAnyHost, func(t *testing.T, w *world) {
		w.ca.Unresolve("*")
		for i := range 50 {
			w.get(fmt.Sprintf("www.stranger%d.com", i))
		}
		for range 30 {
			time.Sleep(day)
			w.get("www.stranger0.com")
		}
		n := 0
		for i := range 50 {
			if _, err := w.cache.Cache.Get(t.Context(), fmt.Sprintf("www.stranger%d.com+failure", i)); err == nil {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%d records of strangers are still there after 30 days", n)
		}
	})
}

// a host removed while it is issued for.
func TestRemoveDuringIssuance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 10*time.Second)
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.m.Hosts.Remove("a.example.com")
		time.Sleep(time.Hour)
		if s := w.m.Snapshot(); len(s.Hosts) != 0 {
			t.Errorf("%+v", s.Hosts)
		}
		if n := w.orders("a.example.com"); n != 0 {
			t.Logf("%d orders after removal", n)
		}
	})
}

// a certificate that never ends.
func TestCertificateThatNeverEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) })
		if _, err := w.get("a.example.com"); err != nil {
			t.Error(err)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// a cache that fails at once: an event and a read for each handshake.
func TestFailingCacheFloodsNoLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return errors.New("refused") })
		for range 1000 {
			w.get("a.example.com")
		}
		if n := len(w.events.of(audit.CacheReadFailed)); n > 10 {
			t.Errorf("%d events, %d reads for 1000 handshakes in an instant", n, len(w.cache.reads()))
		}
	})
}

// a damaged account key is blamed on the CA.
func TestDamagedAccountKeyIsNotTheCAsFault(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.Cache.Put(t.Context(), accountCacheKey, []byte("garbage"))
		w.get("a.example.com")
		_, err := w.get("b.example.com")
		if errors.Is(err, ErrCAUnavailable) {
			t.Error(err)
		}
		if e := w.events.of(audit.CAUnavailable); len(e) > 0 {
			t.Error(e)
		}
	})
}

// the leader waits for a hung write although the certificate is in memory.
func TestFirstVisitorDoesNotWaitForAHungWrite(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(ctx context.Context, key string) error {
			if key == "a.example.com" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		start := time.Now()
		w.mustGet("a.example.com")
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}
