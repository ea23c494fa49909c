package certmgr_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// front is a server of a world's Manager: what it is on port 443, and how often http-01 was
// asked of it on port 80.
type front struct {
	config *tls.Config
	http01 atomic.Int32
}

// frontOf has every name lead to a server with these protocols and an HTTPHandler.
func frontOf(w *world, protos ...string) *front {
	f := &front{config: &tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: protos}}
	handler := w.m.HTTPHandler(nil)
	w.ca.Unresolve("*")
	w.ca.Resolve("*", acmetest.Target{TLSConfig: f.config, HTTPHandler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		f.http01.Add(1)
		handler.ServeHTTP(rw, r)
	})})
	return f
}

// visit makes a real handshake of a client.
func (f *front) visit(t *testing.T, host string) {
	t.Helper()
	c, s := net.Pipe()
	var client sync.WaitGroup
	client.Go(func() {
		tls.Client(c, &tls.Config{ServerName: host, InsecureSkipVerify: true}).HandshakeContext(context.Background())
		c.Close()
	})
	if err := tls.Server(s, f.config).HandshakeContext(t.Context()); err != nil {
		t.Errorf("a visitor of %s: %v", host, err)
	}
	s.Close()
	client.Wait()
}

// A server whose tls.Config does not offer acme-tls/1 uses http-01 from the first host on.
func TestHTTP01GoesFirstWithoutTheOtherProtocol(t *testing.T) {
	for _, protos := range [][]string{nil, {"h2", "http/1.1"}} {
		inBubble(t, func(t *testing.T, w *world) {
			f := frontOf(w, protos...)
			f.visit(t, "a.example.com")
			w.mustGet("b.example.com") // by hand: what is known holds for all hosts
			if failed := w.events.of(audit.ChallengeFailed); len(failed) != 0 || f.http01.Load() != 2 {
				t.Errorf("protocols %q: %d requests by http-01, %d challenges failed: %v", protos, f.http01.Load(), len(failed), failed)
			}
			w.wantOrders("a.example.com", 1)
		})
	}
}

// If no handshake tells, the CA does, once and not for each host.
func TestHTTP01GoesFirstOnceTheCAHasSaidWhy(t *testing.T) {
	for _, protos := range [][]string{nil, {"h2"}} {
		inBubble(t, func(t *testing.T, w *world) {
			f := frontOf(w, protos...)
			for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
				w.mustGet(host)
			}
			if failed := w.events.of(audit.ChallengeFailed); len(failed) != 1 || f.http01.Load() != 3 {
				t.Errorf("protocols %q: %d requests by http-01, %d challenges failed: %v", protos, f.http01.Load(), len(failed), failed)
			}
		})
	}
}

// Where the protocol is offered, or nothing is known of that, tls-alpn-01 goes first as ever.
func TestTLSALPN01GoesFirstIfItMayWork(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		f := frontOf(w, "h2", acme.ALPNProto)
		w.mustGet("a.example.com") // by hand
		f.visit(t, "b.example.com")
		own := &front{config: w.m.TLSConfig()}
		own.config.NextProtos = []string{"h2"} // its GetConfigForClient offers it still
		own.visit(t, "c.example.com")
		if n := f.http01.Load(); n != 0 {
			t.Errorf("%d requests by http-01", n)
		}
	})
}

// http-01 that fails is followed by tls-alpn-01: the CA may reach another server than the
// client whose handshake told.
func TestTLSALPN01FollowsHTTP01(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		frontOf(w, "h2", acme.ALPNProto)
		w.ca.FailValidation("a.example.com", "http-01", acmetest.Problem{Type: "connection"})
		internal := &front{config: &tls.Config{GetCertificate: w.m.GetCertificate}}
		internal.visit(t, "a.example.com")
		failed := w.events.of(audit.ChallengeFailed)
		if len(failed) != 1 || failed[0].Reason[:7] != "http-01" {
			t.Errorf("challenges failed: %v", failed)
		}
	})
}

// Without HTTPHandler there is nothing but tls-alpn-01.
func TestHTTP01NeedsItsHandler(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		(&front{config: &tls.Config{GetCertificate: w.m.GetCertificate}}).visit(t, "a.example.com")
		if failed := w.events.of(audit.ChallengeFailed); len(failed) != 0 {
			t.Errorf("challenges failed: %v", failed)
		}
	})
}
