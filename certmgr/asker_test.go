package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/flight"
)

// addrConn is a connection that has nothing but a remote address.
type addrConn struct {
	net.Conn
	addr string
}

func (c *addrConn) RemoteAddr() net.Addr { return stringAddr(c.addr) }

type stringAddr string

func (stringAddr) Network() string  { return "tcp" }
func (a stringAddr) String() string { return string(a) }

// helloFrom is a client's hello.
func helloFrom(addr, host string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{"h2", "http/1.1"}, Conn: &addrConn{addr: addr}}
}

// askers is a policy that notes who asks.
type askers struct {
	mu    sync.Mutex
	asked []certmgr.Asker // a zero one for a call without
	ctx   context.Context // of the last call
	err   error
	slow  time.Duration
}

func (a *askers) policy(ctx context.Context, _ string) error {
	derived, cancel := context.WithCancel(ctx)
	defer cancel()
	who, ok := certmgr.AskerFromContext(derived)
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok == (who == certmgr.Asker{}) {
		a.err = errors.New("ok does not fit the Asker")
	}
	a.asked, a.ctx = append(a.asked, who), ctx
	if a.slow > 0 {
		a.mu.Unlock()
		flight.Sleep(ctx, a.slow)
		a.mu.Lock()
	}
	return a.err
}

// take returns who asked since the last call of take.
func (a *askers) take() []certmgr.Asker {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

func (a *askers) wantOne(t *testing.T, what string, want certmgr.Asker) {
	t.Helper()
	if got := a.take(); len(got) != 1 || got[0] != want {
		t.Errorf("%s: the policy was asked for %+v, want %+v", what, got, want)
	}
}

// The context of HostPolicy has the client whose handshake asks, wherever the
// policy is called, and none if no handshake does.
func TestAskerInThePolicysContext(t *testing.T) {
	for name, wrap := range map[string]func(certmgr.HostPolicy) certmgr.HostPolicy{
		"blocking":     func(p certmgr.HostPolicy) certmgr.HostPolicy { return p },
		"non-blocking": certmgr.NonBlocking,
	} {
		t.Run(name, func(t *testing.T) {
			a := new(askers)
			policyWorld(t, wrap(a.policy), func(t *testing.T, w *world) {
				want := certmgr.Asker{RemoteAddr: "192.0.2.7:4711", SNI: "A.example.com", ALPN: "h2,http/1.1"}
				if _, err := w.m.GetCertificate(helloFrom("192.0.2.7:4711", "A.example.com")); err != nil {
					t.Fatal(err)
				}
				a.wantOne(t, "first visitor", want)

				time.Sleep(policyTTL + time.Second)
				want.RemoteAddr = "192.0.2.8:4711"
				w.m.GetCertificate(helloFrom("192.0.2.8:4711", "A.example.com"))
				a.wantOne(t, "an old approval", want)

				challenge := helloFrom("192.0.2.9:4711", "b.example.com")
				challenge.SupportedProtos = []string{"acme-tls/1"}
				w.m.GetCertificate(challenge)
				a.wantOne(t, "challenge", certmgr.Asker{RemoteAddr: "192.0.2.9:4711", SNI: "b.example.com", ALPN: "acme-tls/1"})

				if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
					t.Fatal(err)
				}
				for _, who := range a.take() {
					if who != (certmgr.Asker{}) {
						t.Errorf("a renewal is asked for by %+v", who)
					}
				}
				if a.err != nil {
					t.Error(a.err)
				}
			})
		})
	}
}

// The first client's is told when several ask at once, and also if it leaves
// before the rest of its handshake goes on in the background.
func TestFirstAskerIsTold(t *testing.T) {
	a := &askers{slow: 2 * time.Second, err: errors.New("no customer")}
	policyWorld(t, a.policy, func(t *testing.T, w *world) {
		var visits sync.WaitGroup
		for _, addr := range []string{"192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"} {
			visits.Go(func() { w.m.GetCertificate(helloFrom(addr, "a.example.com")) })
			synctest.Wait()
		}
		visits.Wait()
		a.wantOne(t, "three at once", certmgr.Asker{RemoteAddr: "192.0.2.1:1", SNI: "a.example.com", ALPN: "h2,http/1.1"})
	})
	a = &askers{slow: 2 * time.Second}
	policyWorld(t, a.policy, func(t *testing.T, w *world) {
		w.m.HandshakeWait = time.Second
		w.m.GetCertificate(helloFrom("192.0.2.4:4", "a.example.com"))
		time.Sleep(10 * time.Second)
		for i, who := range a.take() {
			if who.RemoteAddr != "192.0.2.4:4" {
				t.Errorf("call %d is for %+v", i, who)
			}
		}
	})
}

// What a client sent is bounded and escaped, and a connection may be a dummy.
func TestAskerIsBounded(t *testing.T) {
	a := &askers{err: errors.New("no customer")}
	policyWorld(t, a.policy, func(t *testing.T, w *world) {
		hello := helloFrom(strings.Repeat("9", 10_000), "a.example.com")
		hello.SupportedProtos = []string{strings.Repeat("\n\x00", 5_000), "h2"}
		w.m.GetCertificate(hello)
		got := a.take()
		if len(got) != 1 {
			t.Fatalf("asked for %v", got)
		}
		for _, s := range []string{got[0].RemoteAddr, got[0].SNI, got[0].ALPN} {
			if len(s) > 300 || strings.ContainsAny(s, "\n\x00") {
				t.Errorf("an Asker has %d bytes: %q", len(s), s)
			}
		}
		hello = helloFrom("", "b.example.com")
		hello.Conn = struct{ net.Conn }{} // panics
		w.m.GetCertificate(hello)
		a.wantOne(t, "dummy connection", certmgr.Asker{SNI: "b.example.com", ALPN: "h2,http/1.1"})
	})
}

// A policy may keep its context for ever, or never return. That keeps neither
// the hello nor the connection.
func TestAskerEndsWithTheCall(t *testing.T) {
	for name, wrap := range map[string]func(certmgr.HostPolicy) certmgr.HostPolicy{
		"blocking":     func(p certmgr.HostPolicy) certmgr.HostPolicy { return p },
		"non-blocking": certmgr.NonBlocking,
		"hung": func(p certmgr.HostPolicy) certmgr.HostPolicy {
			return func(ctx context.Context, host string) error {
				err := p(ctx, host)
				time.Sleep(policyTimeout + time.Minute)
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &askers{err: errors.New("no customer")}
			policyWorld(t, wrap(a.policy), func(t *testing.T, w *world) {
				hello := helloFrom("192.0.2.7:4711", "a.example.com")
				conn := weak.Make(hello.Conn.(*addrConn))
				w.m.GetCertificate(hello)
				hello = nil
				synctest.Wait()
				if who, ok := certmgr.AskerFromContext(a.ctx); ok {
					t.Errorf("after the call its context has %+v", who)
				}
				runtime.GC()
				runtime.GC()
				if conn.Value() != nil {
					t.Error("the connection is still reachable")
				}
				time.Sleep(2 * time.Minute) // a hung call returns
				runtime.KeepAlive(a.ctx)
			})
		})
	}
	if _, ok := certmgr.AskerFromContext(t.Context()); ok {
		t.Error("a context of nobody's has an Asker")
	}
}
