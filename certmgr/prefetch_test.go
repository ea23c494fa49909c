package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// dummyConn is a connection that is none, as programs hand in that prefetch.
type dummyConn struct {
	net.Conn // nil: most methods panic
	addr     net.Addr
}

func (c *dummyConn) RemoteAddr() net.Addr { return c.addr }

// prefetches are hellos of programs that call GetCertificate themselves, as they make
// them.
var prefetches = []struct {
	name  string
	hello tls.ClientHelloInfo
}{
	{"the name alone", tls.ClientHelloInfo{}},
	{"a connection without an address", tls.ClientHelloInfo{Conn: &dummyConn{}}},
	{"a connection whose address is a nil pointer", tls.ClientHelloInfo{Conn: &dummyConn{addr: (*net.TCPAddr)(nil)}}},
	{"a connection that panics", tls.ClientHelloInfo{Conn: struct{ net.Conn }{}}},
	{"a nil pointer as a connection", tls.ClientHelloInfo{Conn: (*dummyConn)(nil)}},
	{"like a browser, without a connection", tls.ClientHelloInfo{
		SupportedProtos:   []string{"h2", "http/1.1"},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11},
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305},
	}},
}

// prefetch asks once, by a hello without a context.
func (w *world) prefetch(host string) (took time.Duration, err error) {
	start := time.Now()
	_, err = w.get(host)
	return time.Since(start), err
}

// withPrefetch is inBubble with the default of HandshakeWait.
func withPrefetch(t *testing.T, f func(t *testing.T, w *world)) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = 0
		f(t, w)
	})
}

// Who asks once and takes an error for a failure gets the certificate of a slow CA.
func TestPrefetchWaitsForASlowCA(t *testing.T) {
	for _, p := range prefetches {
		t.Run(p.name, func(t *testing.T) {
			withPrefetch(t, func(t *testing.T, w *world) {
				w.m.Hosts, w.m.HostPolicy = nil, func(context.Context, string) error { return nil }
				w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 25*time.Second)
				w.ca.Delay(acmetest.Match{Endpoint: acmetest.Finalize}, 25*time.Second)
				hello := p.hello
				hello.ServerName = "a.example.com"
				start := time.Now()
				cert, err := w.m.GetCertificate(&hello)
				if err != nil || time.Since(start) < 50*time.Second {
					t.Fatalf("after %v: %v", time.Since(start), err)
				}
				if got, _ := bundle.AlgorithmOf(cert.Leaf); got != bundle.ECDSA {
					t.Errorf("the key is %v", got)
				}
			})
		})
	}
}

// The error is the CA's reason, once it is known: the caller does not come again.
func TestPrefetchGetsTheReasonOfAFailure(t *testing.T) {
	withPrefetch(t, func(t *testing.T, w *world) {
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 25*time.Second)
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "no such name"})
		took, err := w.prefetch("a.example.com")
		if failed, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || failed.Host != "a.example.com" || took < 25*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// The wait has an end, as autocert's: 5 minutes.
func TestPrefetchWaitsFor5MinutesAtMost(t *testing.T) {
	withPrefetch(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		w.ca.StuckProcessing("*")
		go w.get("a.example.com") // holds the slot for as long as an attempt may take
		time.Sleep(10 * time.Second)
		took, err := w.prefetch("b.example.com") // waits for it, and then for the CA
		if took != 5*time.Minute || !errors.Is(err, certmgr.ErrInFlight) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// Who finds an issuance in flight did not begin it, and fails fast unless InFlightWait
// is set.
func TestPrefetchThatJoinsFailsFast(t *testing.T) {
	for _, tt := range []struct{ inFlightWait, want time.Duration }{
		{0, 0}, {-1, 0}, {3 * time.Second, 3 * time.Second}, {20 * time.Second, 20 * time.Second}, {time.Hour, 25 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.inFlightWait), func(t *testing.T) {
			withPrefetch(t, func(t *testing.T, w *world) {
				w.m.InFlightWait = tt.inFlightWait
				w.mustGet("d.example.com")
				w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 25*time.Second)
				go w.get("a.example.com")
				synctest.Wait()
				took, err := w.prefetch("a.example.com")
				if took.Truncate(time.Second) != tt.want || (err == nil) != (tt.want == 25*time.Second) || err != nil && !errors.Is(err, certmgr.ErrInFlight) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// HandshakeWait, once set, holds for every hello, also where it is what is the default.
func TestHandshakeWaitHoldsForPrefetches(t *testing.T) {
	for _, wait := range []time.Duration{-1, time.Second, 10 * time.Second, time.Minute} {
		withPrefetch(t, func(t *testing.T, w *world) {
			w.m.HandshakeWait = wait
			w.mustNotWait("a.example.com", max(wait, 0))
		})
	}
}

// mustNotWait prefetches from a CA that is slow, and wants ErrInFlight after d.
func (w *world) mustNotWait(host string, d time.Duration) {
	w.t.Helper()
	w.ca.StuckProcessing("*")
	if took, err := w.prefetch(host); took != d || !errors.Is(err, certmgr.ErrInFlight) {
		w.t.Errorf("after %v, want %v: %v", took, d, err)
	}
}

// The hello of a TLS stack has a context: its handshake waits for 10 s by default.
func TestHandshakeOfATLSStackWaits10Seconds(t *testing.T) {
	withPrefetch(t, func(t *testing.T, w *world) {
		w.ca.Stall(acmetest.Match{})
		start := time.Now()
		err := w.handshake(context.Background(), "a.example.com")
		if took := time.Since(start); took != 10*time.Second || !errors.Is(err, certmgr.ErrInFlight) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// What ends the wait of a handshake ends that of a prefetch: Close, and that the host
// is no longer allowed.
func TestPrefetchEndsEarly(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *world)
		want error
	}{
		{"Close", func(w *world) { w.m.Close() }, certmgr.ErrClosed},
		{"Remove", func(w *world) { w.m.Hosts.Remove("a.example.com") }, certmgr.ErrHostNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withPrefetch(t, func(t *testing.T, w *world) {
				w.mustGet("d.example.com")
				w.ca.Stall(acmetest.Match{})
				time.AfterFunc(40*time.Second, func() { tt.end(w) })
				if took, err := w.prefetch("a.example.com"); took.Round(time.Second) != 40*time.Second || !errors.Is(err, tt.want) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// Policy and cache keep their own bounds: what hangs there is told within seconds.
func TestPrefetchDoesNotWaitForCallbacksThatHang(t *testing.T) {
	withPrefetch(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
		if took, err := w.prefetch("a.example.com"); took > 6*time.Second || !errors.Is(err, certmgr.ErrCache) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// A program that prefetches many hosts at once has MaxWaiting calls wait. The others
// are refused, and their certificates come nevertheless.
func TestPrefetchesAreBounded(t *testing.T) {
	withPrefetch(t, func(t *testing.T, w *world) {
		w.m.MaxWaiting = 3
		names := []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}
		w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 25*time.Second)
		var wg sync.WaitGroup
		for _, name := range names {
			wg.Go(func() { w.get(name) })
		}
		synctest.Wait()
		if n := w.m.Snapshot().Waiting; n != 3 {
			t.Errorf("%d wait", n)
		}
		wg.Wait()
		time.Sleep(time.Second)
		for _, name := range names {
			w.mustGet(name)
			w.wantOrders(name, 1)
		}
	})
}
