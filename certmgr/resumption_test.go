package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// forVersions runs f for each version of TLS, in a new world whose
// a.example.com has a client with a session.
func forVersions(t *testing.T, set func(ca *acmetest.Server), f func(t *testing.T, w *world, server, client *tls.Config)) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				server, client := w.m.TLSConfig(), w.client("a.example.com")
				client.MaxVersion = version
				w.wantFull(server, client)
				time.Sleep(time.Second)
				w.wantResumed(server, client)
				f(t, w, server, client)
			}, set)
		})
	}
}

// client returns the configuration of a client that keeps its sessions.
func (w *world) client(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: w.ca.Roots(), ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

// visit reads a line from a server, with which TLS 1.3 brings a ticket, and
// reports whether a session was resumed.
func visit(t *testing.T, server, client *tls.Config) (resumed bool, err error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		conn := tls.Server(far, server)
		if conn.HandshakeContext(t.Context()) == nil {
			io.WriteString(conn, "hello\n")
		}
	}()
	defer func() { <-done }()
	defer near.Close()
	return readLine(t.Context(), tls.Client(near, client))
}

func readLine(ctx context.Context, conn *tls.Conn) (resumed bool, err error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return false, err
	}
	_, err = io.ReadFull(conn, make([]byte, 6))
	return conn.ConnectionState().DidResume, err
}

func (w *world) wantResumed(server, client *tls.Config) {
	w.t.Helper()
	if resumed, err := visit(w.t, server, client); err != nil || !resumed {
		w.t.Fatalf("resumed %v, error %v; want a resumed session", resumed, err)
	}
}

func (w *world) wantFull(server, client *tls.Config) {
	w.t.Helper()
	if resumed, err := visit(w.t, server, client); err != nil || resumed {
		w.t.Fatalf("resumed %v, error %v; want a full handshake", resumed, err)
	}
}

// wantRefused checks that a client with a session is refused, and that this is
// counted and told as any refusal.
func (w *world) wantRefused(server, client *tls.Config, result audit.Result) {
	w.t.Helper()
	before := w.m.Metrics().Handshakes[result]
	if _, err := visit(w.t, server, client); err == nil {
		w.t.Error("a client that was there before is served")
	}
	if n := w.m.Metrics().Handshakes[result] - before; n != 1 {
		w.t.Errorf("%d handshakes are counted as %s, want 1", n, result)
	}
	for _, e := range w.events.of(audit.HandshakesRefused) {
		if e.Result == result && e.Host == "a.example.com" {
			return
		}
	}
	w.t.Errorf("no event of a refusal as %s", result)
}

func TestSessionOfARemovedHostIsNotResumed(t *testing.T) {
	forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
		w.m.Hosts.Remove("a.example.com")
		if w.m.MayResume(tls.ConnectionState{ServerName: "a.example.com"}) {
			t.Error("at once after Remove: it may be resumed")
		}
		w.wantRefused(server, client, audit.ResultNotAllowed)
		w.m.Hosts.Add("a.example.com")
		w.wantFull(server, client)
		w.wantResumed(server, client)
	})
}

func TestSessionOfAHostThatThePolicyRefusesIsNotResumed(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"default": 0, "asked each time": -1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var refuses atomic.Bool
				w.m.Hosts, w.m.PolicyTTL = nil, ttl
				w.m.HostPolicy = func(context.Context, string) error {
					if refuses.Load() {
						return errors.New("not a customer")
					}
					return nil
				}
				server, client := w.m.TLSConfig(), w.client("a.example.com")
				w.wantFull(server, client)
				if ttl == 0 {
					w.wantResumed(server, client)
				} else {
					w.wantFull(server, client) // the policy has to be asked
				}
				refuses.Store(true)
				if ttl == 0 {
					time.Sleep(policyTTL + time.Second)
					w.wantResumed(server, client) // has the policy asked
					synctest.Wait()
				}
				w.wantRefused(server, client, audit.ResultNotAllowed)
			})
		})
	}
}

func TestSessionOfARevokedCertificateIsNotResumed(t *testing.T) {
	t.Run("without another", func(t *testing.T) {
		forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
			w.m.HandshakeWait = -1
			defer w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}).Lift()
			w.mustRevoke("a.example.com", acme.CRLReasonKeyCompromise)
			synctest.Wait()
			w.wantRefused(server, client, audit.ResultInFlight)
		})
	})
	t.Run("with a new one", func(t *testing.T) {
		forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
			other := w.client("a.example.com")
			w.wantFull(server, other)
			w.mustRevoke("a.example.com", acme.CRLReasonKeyCompromise)
			time.Sleep(time.Minute)
			w.mustGet("a.example.com")
			w.wantFull(server, client)
			w.wantResumed(server, client)
			time.Sleep(day)
			w.wantFull(server, other) // that was not there meanwhile
		})
	})
}

func TestSessionOutlivesNoCertificate(t *testing.T) {
	forVersions(t, func(ca *acmetest.Server) { ca.Lifetime = 12 * time.Hour }, func(t *testing.T, w *world, server, client *tls.Config) {
		defer w.ca.Stall(acmetest.Match{Endpoint: acmetest.Any}).Lift()
		time.Sleep(day)
		if _, err := visit(t, server, client); err == nil {
			t.Error("a host whose certificate has ended is served")
		}
		if w.m.MayResume(tls.ConnectionState{ServerName: client.ServerName}) { // clients look at the end themselves
			t.Error("a session may be resumed although the certificate has ended")
		}
	})
}

func TestMayResume(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.mustGet("d.example.com")
		w.m.Hosts.Remove("d.example.com")
		for name, want := range map[string]bool{
			"a.example.com":       true,
			"A.Example.COM.":      true,
			"b.example.com":       false, // allowed, but without a certificate
			"d.example.com":       false, // with one, but not allowed
			"other.example.com":   false,
			"sub.a.example.com":   false,
			"":                    false,
			"192.0.2.1":           false,
			"[2001:db8::1]":       false,
			"a.example.com:443":   false,
			"a.example.com\x00.b": false,
		} {
			for _, when := range []string{"before", "after"} {
				if got := w.m.MayResume(tls.ConnectionState{ServerName: name}); got != want {
					t.Errorf("%q %s Close: %v, want %v", name, when, got, want)
				}
				if when == "before" && name == "a.example.com" {
					w.cache.reads()
				}
			}
		}
		if reads := w.cache.otherReads(); len(reads) != 0 {
			t.Errorf("the cache was asked for %q", reads)
		}
		w.m.Close()
		if !w.m.MayResume(tls.ConnectionState{ServerName: "a.example.com"}) {
			t.Error("after Close a host in memory is served, but not resumed")
		}
	})
}

// Clients that only ever resume are visitors as well.
func TestResumptionIsAVisit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		server, client := w.m.TLSConfig(), w.client("a.example.com")
		w.wantFull(server, client)
		served := w.m.Metrics().Handshakes[audit.ResultServed]
		for range 60 {
			time.Sleep(day)
			w.wantResumed(server, client)
		}
		for _, h := range w.m.StaleHosts(30 * day) {
			if h.Entry == "a.example.com" {
				t.Errorf("a visitor a moment ago: %+v", h)
			}
		}
		if n := w.m.Metrics().Handshakes[audit.ResultServed] - served; n != 0 {
			t.Errorf("%d resumed sessions count as handshakes", n)
		}
	})
}

// Without a server name, the certificate is one of tls.Config.Certificates, but
// a session with a name is not resumed without it.
func TestSessionWithoutAName(t *testing.T) {
	forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
		if client.MaxVersion == tls.VersionTLS13 {
			nameless := client.Clone()
			nameless.ClientSessionCache = underOneKey{client.ClientSessionCache, "a.example.com"}
			nameless.ServerName, nameless.InsecureSkipVerify = "", true
			w.wantResumed(server, client)
			before := w.m.Metrics().Handshakes[audit.ResultNoServerName]
			if _, err := visit(t, server, nameless); err == nil || w.m.Metrics().Handshakes[audit.ResultNoServerName] != before+1 {
				t.Errorf("the session of a host is resumed without its name: %v", err)
			}
		}
		server = server.Clone()
		server.Certificates = []tls.Certificate{*w.mustGet("b.example.com")}
		nameless := w.client("")
		nameless.InsecureSkipVerify, nameless.MaxVersion = true, client.MaxVersion
		w.wantFull(server, nameless)
		w.wantResumed(server, nameless)
	})
}

// underOneKey is a client's cache that gives the session of one host for any.
type underOneKey struct {
	tls.ClientSessionCache
	key string
}

func (c underOneKey) Get(string) (*tls.ClientSessionState, bool) {
	return c.ClientSessionCache.Get(c.key)
}
