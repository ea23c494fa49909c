package certmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// strangers in flight keep established open hosts from renewal until they expire.
func TestStrangersKeepNobodyFromRenewal(t *testing.T) {
	policyWorld(t, AllowAnyHost, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Unresolve("*")
		w.ca.Resolve("a.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotBefore = time.Now(); c.NotAfter = time.Now().Add(40 * time.Minute) })
		w.get("a.example.com")
		time.Sleep(time.Minute)
		if _, err := w.get("a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 20*time.Second)
		n := 0
		for range 80 {
			time.Sleep(30 * time.Second)
			for w.m.engine.operator.issuer.open.strangers.Load() < maxStrangers {
				w.get(fmt.Sprintf("www.stranger%d.com", n))
				n++
			}
		}
		if _, err := w.get("a.example.com"); err != nil {
			t.Errorf("%d strangers' names, %d orders for a: %v", n, w.orders("a.example.com"), err)
		}
	})
}

// a long reason cuts off when the next attempt is due.
func TestLongCauseKeepsTheNextAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: strings.Repeat("During secondary validation: no. ", 60)})
		w.get("a.example.com")
		_, err := w.get("a.example.com")
		if !strings.Contains(err.Error(), "next attempt 2000") {
			t.Errorf("...%s", err.Error()[900:])
		}
	})
}

type panicHandler struct{ slog.Handler }

func (panicHandler) Handle(context.Context, slog.Record) error { panic("handler") }
func (panicHandler) Enabled(context.Context, slog.Level) bool  { return true }

// A slog handler that panics does not end the process.
func TestPanickingLogHandlerIsSurvived(t *testing.T) {
	old := slog.Default()
	slog.SetDefault(slog.New(panicHandler{slog.DiscardHandler}))
	defer slog.SetDefault(old)
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Audit = nil
		w.cache.get(func(context.Context, string) error { return fmt.Errorf("x") })
		w.get("a.example.com")
		synctest.Wait()
	})
}

func TestStartWithNilContextPanicsInTheCaller(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		defer func() {
			if recover() == nil {
				t.Error("no panic in the caller")
			}
		}()
		var none context.Context
		w.m.Start(none)
	})
}

// what autocert gives RSA and we give ECDSA.
func TestRSASuitesBesideTLS13(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
			CipherSuites:     []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}}
		c, err := w.m.GetCertificate(hello)
		if err != nil {
			t.Fatal(err)
		}
		if c.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Errorf("%v; a server with MaxVersion TLS 1.2 cannot use it for this client", c.Leaf.PublicKeyAlgorithm)
		}
		_ = autocert.Manager{}
	})
}

type deafTransport struct{ hang chan struct{} }

func (d deafTransport) RoundTrip(*http.Request) (*http.Response, error) {
	<-d.hang
	return nil, fmt.Errorf("x")
}

// a transport that ignores its context: goroutines without bound, and Close says nothing.
func TestTransportThatIgnoresContextsIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		d := deafTransport{make(chan struct{})}
		w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &http.Client{Transport: d}}
		w.m.HandshakeWait = -1
		g := runtime.NumGoroutine()
		for range 7 * 24 * 6 {
			w.get("a.example.com")
			time.Sleep(10 * time.Minute)
		}
		synctest.Wait()
		n := runtime.NumGoroutine() - g
		err := w.m.Close()
		if n > 80 || err == nil || !strings.Contains(err.Error(), w.ca.URL) {
			t.Errorf("%d goroutines after a week; Close: %v", n, err)
		}
		close(d.hang)
	})
}

// issuances that never got a slot leave no event.
func TestQueueTimeoutIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		w.m.HandshakeWait = -1
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 29*time.Second)
		for i := range 30 {
			w.m.Hosts.Add(fmt.Sprintf("h%d.example.com", i))
			w.get(fmt.Sprintf("h%d.example.com", i))
		}
		time.Sleep(10 * time.Minute)
		lost := 0
		started := w.events.of(audit.IssuanceStarted)
		failed := w.events.of(audit.IssuanceFailed)
		lost = 30 - len(started)
		if lost > 0 && len(failed) == 0 {
			t.Errorf("%d of 30 issuances were given up without an event", lost)
		}
	})
}

// Close while a challenge is live leaves its answers in the cache for ever.
func TestCloseLeavesNoAnswersInTheCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.HTTPHandler(nil)
		w.ca.Challenges = nil
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge})
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.m.Close()
		for _, key := range w.cache.puts {
			if strings.HasSuffix(key, "+token") || strings.HasSuffix(key, "+http-01") {
				if _, err := w.cache.Cache.Get(t.Context(), key); err == nil {
					t.Errorf("%q was left behind", key)
				}
			}
		}
	})
}

// after a restart a host is backing off and no event says so.
func TestRestoredBackoffIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.restart()
		n := len(w.events.events)
		w.wantErr("a.example.com", ErrBackoff)
		synctest.Wait()
		for _, e := range w.events.events[n:] {
			if e.Kind != audit.HandshakesRefused && e.Kind != audit.ManagerClosed {
				return
			}
		}
		t.Errorf("no event of the state that was restored: %v", w.events.events[n:])
	})
}

// a policy that panics is seen by nobody but the client while no hook is set.
func TestPolicyFailureIsReported(t *testing.T) {
	log := quietLog(t)
	policyWorld(t, func(context.Context, string) error { panic("nil map") }, func(t *testing.T, w *world) {
		w.m.Audit = nil
		w.get("a.example.com")
		synctest.Wait()
		if !strings.Contains(log.String(), "nil map") {
			t.Errorf("log: %q", log.String())
		}
	})
}

// a second Close returns while the first still works.
func TestSecondCloseWaitsForTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(ctx context.Context, key string) error { time.Sleep(2 * time.Second); return nil })
		go w.get("a.example.com")
		time.Sleep(100 * time.Millisecond)
		go w.m.Close()
		synctest.Wait()
		start := time.Now()
		w.m.Close()
		took := time.Since(start)
		now, cancel := context.WithCancel(t.Context())
		cancel()
		if w.m.engine.tasks.Wait(now) != nil {
			t.Errorf("Close returned after %v before the goroutines", took)
		}
	})
}
