package certmgr_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// fallbackWorld is a bubble whose Manager has a Fallback.
func fallbackWorld(t *testing.T, f func(t *testing.T, w *world, isFallback func(*tls.Certificate) bool)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		own := certmgr.SelfSigned()
		w.m.Fallback = own
		f(t, w, func(c *tls.Certificate) bool { return c != nil && bytes.Equal(c.Certificate[0], own.Certificate[0]) })
	})
}

// While a host has no certificate, the fallback is served in place of the
// errors that say so, and issuance goes on as without it.
func TestFallbackStandsIn(t *testing.T) {
	for name, test := range map[string]struct {
		provoke func(w *world)
		wait    time.Duration // of the first handshake
	}{
		"in flight": {func(w *world) { w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) }, 10 * time.Second},
		"backing off": {func(w *world) {
			w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized"})
		}, 0},
		"CA out of service": {func(w *world) { caIsDown(w) }, 0},
		"waits for DNS": {func(w *world) {
			w.m.Preflight = preflight.Enforce
			w.m.PreflightResolver = nowhere{}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fallbackWorld(t, func(t *testing.T, w *world, isFallback func(*tls.Certificate) bool) {
				test.provoke(w)
				began := time.Now()
				first, err := w.get("a.example.com")
				if took := time.Since(began); !isFallback(first) || took < test.wait || took > 10*time.Second {
					t.Fatalf("the first handshake got %v, %v after %v", first != nil, err, took)
				}
				began = time.Now()
				cert, err := w.get("a.example.com")
				if !isFallback(cert) || time.Since(began) > 0 {
					t.Fatalf("the second handshake got another certificate or waited: %v", err)
				}
				if &cert.Certificate[0] == &first.Certificate[0] && cap(cert.Certificate) > len(cert.Certificate) {
					t.Error("callers could append to the same chain")
				}
				m := w.m.Metrics()
				if m.Handshakes[audit.ResultFallback] != 2 || w.m.Snapshot().Refused != 0 {
					t.Errorf("handshakes: %v", m.Handshakes)
				}
				time.Sleep(time.Second)
				if e := w.events.of(audit.FallbackServed); len(e) != 1 || e[0].Host != "a.example.com" || e[0].Err == nil {
					t.Errorf("events: %v", e)
				}
				if st := w.status("a.example.com"); name != "CA out of service" && (len(st) == 0 || !st[0].Fallback) { // it has no state of its own then
					t.Errorf("status: %+v", st)
				}
				if w.m.MayResume(tls.ConnectionState{ServerName: "a.example.com"}) {
					t.Error("a session is resumed without a certificate")
				}
			})
		})
	}
}

// nowhere resolves no name.
type nowhere struct{}

func (nowhere) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

// Nobody else gets the fallback: no host that is not allowed, nor one that the
// policy cannot decide about, no challenge, nobody while the cache fails, and
// nobody once there is a certificate.
func TestFallbackIsForAllowedHostsOnly(t *testing.T) {
	broken := errors.New("broken")
	fallbackWorld(t, func(t *testing.T, w *world, isFallback func(*tls.Certificate) bool) {
		w.m.HostPolicy = func(_ context.Context, host string) error {
			switch host {
			case "undecided.example.org":
				return certmgr.ErrPolicy
			case "ok.example.org":
				return nil
			}
			return broken
		}
		w.ca.FailValidation("*", "", acmetest.Problem{Type: "unauthorized"})
		w.wantErr("no.example.org", broken)
		w.wantErr("undecided.example.org", certmgr.ErrPolicy)
		w.wantErr("", certmgr.ErrNoServerName)
		w.wantErr("single", certmgr.ErrBadServerName)
		if cert, err := w.get("ok.example.org"); !isFallback(cert) {
			t.Errorf("a host that the policy allows: %v", err)
		}
		hello := &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedProtos: []string{"acme-tls/1"}}
		if cert, err := w.m.GetCertificate(hello); isFallback(cert) || err == nil {
			t.Error("a challenge got the fallback")
		}
		w.cache.get(func(context.Context, string) error { return broken })
		if cert, err := w.get("b.example.com"); isFallback(cert) || !errors.Is(err, certmgr.ErrCache) {
			t.Errorf("while the cache fails: %v", err)
		}
		w.cache.get(nil)
		// A host that is removed while its visitor waits.
		f := w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		var wg sync.WaitGroup
		wg.Go(func() {
			if cert, err := w.get("c.example.com"); isFallback(cert) {
				t.Errorf("a removed host got the fallback: %v", err)
			}
		})
		time.Sleep(time.Second)
		w.m.Hosts.Remove("c.example.com")
		wg.Wait()
		f.Lift()
	})
	fallbackWorld(t, func(t *testing.T, w *world, isFallback func(*tls.Certificate) bool) {
		if isFallback(w.mustGet("a.example.com")) {
			t.Error("the fallback was served in place of a certificate")
		}
		w.m.Close()
		if cert, err := w.get("b.example.com"); cert != nil || !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A session under the fallback is not resumed, also once there is a
// certificate; later ones are.
func TestSessionUnderTheFallbackIsNotResumed(t *testing.T) {
	fallbackWorld(t, func(t *testing.T, w *world, isFallback func(*tls.Certificate) bool) {
		config := w.m.TLSConfig()
		cache := tls.NewLRUClientSessionCache(8)
		connect := func() tls.ConnectionState {
			t.Helper()
			client, server := net.Pipe()
			defer client.Close()
			go func() {
				conn := tls.Server(server, config)
				if conn.Handshake() == nil {
					conn.Write([]byte("x"))
				}
				server.Close()
			}()
			conn := tls.Client(client, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, ClientSessionCache: cache})
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			return conn.ConnectionState()
		}
		f := w.ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
		if cs := connect(); cs.PeerCertificates[0].DNSNames[0] != "fallback.invalid" {
			t.Fatal("no fallback")
		}
		f.Lift()
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		cs := connect()
		if cs.DidResume || cs.PeerCertificates[0].DNSNames[0] != "a.example.com" {
			t.Error("a session under the fallback was resumed")
		}
		time.Sleep(time.Hour)
		connect()
		if cs := connect(); !cs.DidResume {
			t.Error("a session under the certificate is not resumed an hour later")
		}
		if w.m.MayResume(cs) {
			t.Error("MayResume, which sees no ticket, allows what may be a session under the fallback")
		}
		time.Sleep(8 * 24 * time.Hour)
		if !w.m.MayResume(cs) {
			t.Error("MayResume refuses a week later")
		}
	})
}

// A fallback that cannot be served is told at once.
func TestFallbackThatCannotBeServed(t *testing.T) {
	for name, test := range map[string]struct {
		cert func(t *testing.T, ca *officeCA) *tls.Certificate
		says string
	}{
		"expired": {func(t *testing.T, ca *officeCA) *tls.Certificate {
			return ca.sign(t, signed{names: []string{"x"}, from: time.Now().Add(-48 * time.Hour), life: time.Hour})
		}, "expired"},
		"another key": {func(t *testing.T, ca *officeCA) *tls.Certificate {
			c := ca.sign(t, signed{names: []string{"x"}})
			c.PrivateKey = newECDSAKey()
			return c
		}, "does not belong"},
		"no key": {func(t *testing.T, ca *officeCA) *tls.Certificate {
			c := ca.sign(t, signed{names: []string{"x"}})
			c.PrivateKey = nil
			return c
		}, "private key"},
		"empty": {func(*testing.T, *officeCA) *tls.Certificate { return new(tls.Certificate) }, "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Fallback = test.cert(t, newOfficeCA(t))
				err := w.m.Start(t.Context())
				if !errors.Is(err, certmgr.ErrBadSetting) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "Manager.Fallback") {
					t.Errorf("Start: %v", err)
				}
				if e := w.events.of(audit.ConfigurationWarning); len(e) != 1 || !strings.Contains(e[0].Reason, "Manager.Fallback") {
					t.Errorf("events: %v", e)
				}
				caIsDown(w)
				w.get("a.example.com")
				if cert, err := w.get("a.example.com"); cert != nil || err == nil {
					t.Error("it was served")
				}
			})
		})
	}
}

// A fallback that expires is served no more, and a warning says so.
func TestFallbackThatExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Fallback = newOfficeCA(t).sign(t, signed{names: []string{"x"}, life: 2 * time.Hour})
		caIsDown(w)
		w.mustServe("a.example.com", w.m.Fallback)
		time.Sleep(2 * time.Hour)
		if cert, err := w.get("a.example.com"); cert != nil || err == nil {
			t.Error("an expired fallback was served")
		}
		if list := w.m.Snapshot().Warnings; !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "Manager.Fallback expired") }) {
			t.Errorf("warnings: %q", list)
		}
	})
}
