package certmgr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
)

func TestFirstAttemptTriesBothChallengesLaterOnesOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		handler := w.m.HTTPHandler(nil)
		w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig(), HTTPHandler: handler})
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "nobody home"})
		_, err := w.get("a.example.com")
		for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
			if full := certmgr.InFull(err); !strings.Contains(full.Error(), typ) {
				t.Errorf("%q does not have the cause of %s", full, typ)
			}
		}
		w.wantOrders("a.example.com", 2)
		time.Sleep(2 * time.Minute)
		w.get("a.example.com")
		w.wantOrders("a.example.com", 3)
		fault.Lift()
		w.ca.FailValidation("a.example.com", challenge.TLSALPN01, acmetest.Problem{Type: "unauthorized", Detail: "nobody home"})
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

// What is added to TLSConfig does not keep the CA out. A configuration of the
// user's own may, and the error names what in it.
func TestServerConfigurationThatKeepsTheCAOut(t *testing.T) {
	required := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool() }
	for name, tt := range map[string]struct {
		change func(c *tls.Config)
		says   string // of a configuration of the user's own
	}{
		"client certificates": {required, "requires a client certificate"},
		"no protocols":        {func(c *tls.Config) { c.NextProtos = nil }, `NextProtos hold "acme-tls/1"`},
		"other protocols":     {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, `NextProtos hold "acme-tls/1"`},
		"verification": {func(c *tls.Config) {
			c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not known here") }
		}, "requires a client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				ours := w.m.TLSConfig()
				own := &tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: ours.NextProtos}
				for _, c := range []*tls.Config{ours, own} {
					c.MaxVersion = tls.VersionTLS12
					tt.change(c)
				}
				w.ca.Resolve("*", acmetest.Target{TLSConfig: ours})
				w.mustGet("a.example.com")
				w.ca.Resolve("*", acmetest.Target{TLSConfig: own})
				err := w.m.Obtain(t.Context(), "b.example.com")
				if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "was answered") {
					t.Errorf("%v\ndoes not say %q", err, tt.says)
				}
			})
		})
	}
}

// The configuration of TLSConfig is for challenges of this Manager alone: another
// one's GetCertificate may have taken the place of its own.
func TestTLSConfigLeavesOtherHandshakesAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, hello := range []*tls.ClientHelloInfo{
			{ServerName: "a.example.com"},
			{ServerName: "a.example.com", SupportedProtos: []string{"h2"}},
			{ServerName: "a.example.com", SupportedProtos: []string{"acme-tls/1"}}, // awaited elsewhere
			{SupportedProtos: []string{"acme-tls/1"}},
		} {
			if c, err := w.m.TLSConfig().GetConfigForClient(hello); c != nil || err != nil {
				t.Errorf("%+v: %v, %v", hello, c, err)
			}
		}
	})
}

// Whoever poses as a CA while a challenge is pending gets no further than one:
// a server that requires client certificates handles none of their requests.
func TestHandshakeOfAChallengeLeadsToNoRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge})
		w.get("a.example.com")
		time.Sleep(time.Second)
		config := w.m.TLSConfig()
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		near, far := net.Pipe()
		listener := make(connListener, 1)
		listener <- far
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request is handled") })}
		go server.Serve(tls.NewListener(listener, config))
		defer server.Close()
		client := tls.Client(near, &tls.Config{ServerName: "a.example.com", NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true})
		defer client.Close()
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatalf("the challenge is not answered: %v", err) // the test would show nothing
		}
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
		if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("the server replies")
		}
	})
}

// connListener accepts the connections that are sent to it.
type connListener chan net.Conn

func (l connListener) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l connListener) Close() error { close(l); return nil }
func (connListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestForgottenNextProtosIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		config := &tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
		w.ca.Resolve("*", acmetest.Target{TLSConfig: config})
		_, err := w.get("a.example.com")
		if full := certmgr.InFull(err); full == nil || !strings.Contains(full.Error(), `NextProtos hold "acme-tls/1"`) {
			t.Errorf("%v does not say what to look at", full)
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
	for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
		t.Run(typ, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				other := w.manager()
				defer other.Close()
				w.m.HTTPHandler(nil)
				target := acmetest.Target{TLSConfig: other.TLSConfig()}
				if typ == challenge.HTTP01 {
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
					if _, err := w.cache.Cache.Get(t.Context(), key); !errors.Is(err, certmgr.ErrCacheMiss) {
						t.Errorf("the answer under %q was left behind", key)
					}
				}
			})
		})
	}
}

// A validation that never comes to an end is given up. Its authorization is left
// as it is: it expires by itself, and another process of the same account may be
// using it.
func TestPendingAuthorizationsAreLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = 4 * time.Minute
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.Challenge, Host: "a.example.com"})
		_, err := w.get("a.example.com")
		if _, ok := errors.AsType[*certmgr.IssuanceError](err); !ok {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, status := range w.ca.Authorizations("a.example.com") {
			if status != acme.StatusPending {
				t.Errorf("an authorization was made %q", status)
			}
		}
	})
}

// The certificate of a challenge may be changed by who gets it.
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

// Close while a challenge is under way leaves none of its answers in the cache.
func TestCloseLeavesNoAnswersInTheCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.HTTPHandler(nil)
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

// Reads of strangers' http-01 tokens that hang leave room for reads of certificates.
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
		for i := range 4096 + 10 {
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

func (nopWriter) Header() http.Header { return http.Header{} }

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }

func (nopWriter) WriteHeader(int) {}
