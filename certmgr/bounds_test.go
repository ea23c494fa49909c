package certmgr_test

import (
	"context"
	"crypto/tls"
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

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// The bounds below are written out. A test that compares with the constant
// itself passes whatever the constant is.

// However many names strangers ask for, a bounded number of issuances is in flight,
// queued ones included, and they hold a quarter of the slots at most under AllowAnyHost.
func TestStrangersInFlightAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy         certmgr.HostPolicy
		flights, slots int
	}{
		"AllowAnyHost":                  {certmgr.AllowAnyHost, 256, 16},
		"a user's policy that says yes": {func(context.Context, string) error { return nil }, 1024, 64},
	} {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, tt.policy, func(t *testing.T, w *world) {
				w.m.HandshakeWait = -1
				w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
				const names = 2000
				busy := 0
				for i := range names {
					if _, err := w.get(fmt.Sprintf("www.stranger%d.com", i)); errors.Is(err, certmgr.ErrBusy) {
						busy++
					}
				}
				synctest.Wait()
				snap := w.m.Snapshot()
				if n := snap.Issuing + snap.Queued; n != tt.flights || busy != names-n {
					t.Errorf("of %d names %d are in flight and %d were refused, want %d in flight", names, n, busy, tt.flights)
				}
				if snap.Issuing > tt.slots {
					t.Errorf("strangers hold %d of 64 slots, want %d at most", snap.Issuing, tt.slots)
				}
			})
		})
	}
}

// A host that makes way in memory for another is out of everything.
func TestStrangersInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
		certmgr.LimitStrangers(w.m, 10)
		for i := range 30 {
			w.mustGet(fmt.Sprintf("www.stranger%d.com", i))
		}
		if n := certmgr.InMemory(w.m, ""); n != 10 {
			t.Errorf("%d certificates in memory, want 10", n)
		}
	})
}

// Callbacks that do not return are bounded in number: beyond that nothing is
// called, and who would have waited is told at once.
func TestHungCallbacksAreBounded(t *testing.T) {
	tests := []struct {
		name  string
		calls int // handshakes, each for a host of its own
		most  int // callbacks that run
		start func(w *world, hang func())
		get   func(w *world, host string) error
	}{
		{"HostPolicy", 1100, 1024, func(w *world, hang func()) {
			w.m.HostPolicy = func(context.Context, string) error { hang(); return nil }
		}, plainGet},
		{"Cache.Get for strangers", 1100, 1024, func(w *world, hang func()) {
			w.cache.get(func(context.Context, string) error { hang(); return nil })
		}, plainGet},
		{"Cache.Get for hosts that the policy vouches for", 4200, 4096, func(w *world, hang func()) {
			w.m.HostPolicy = func(context.Context, string) error { return nil }
			w.cache.get(func(context.Context, string) error { hang(); return nil })
		}, plainGet},
		{"Cache.Get of challenge answers", 300, 256, func(w *world, hang func()) {
			w.cache.get(func(context.Context, string) error { hang(); return nil })
		}, challengeGet},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policyWorld(t, certmgr.AllowAnyHost, func(t *testing.T, w *world) {
				var running atomic.Int32
				tt.start(w, func() {
					running.Add(1)
					w.cache.hang()
				})
				var busy atomic.Int32
				var wg sync.WaitGroup
				begin := time.Now()
				for i := range tt.calls {
					wg.Go(func() {
						if err := tt.get(w, fmt.Sprintf("www.host%d.com", i)); errors.Is(err, certmgr.ErrBusy) && time.Since(begin) == 0 {
							busy.Add(1)
						}
					})
				}
				wg.Wait()
				if n, refused := int(running.Load()), int(busy.Load()); n != tt.most || refused != tt.calls-tt.most {
					t.Errorf("of %d calls %d run and %d were refused at once, want %d and %d", tt.calls, n, refused, tt.most, tt.calls-tt.most)
				}
				w.cache.release()
			})
		})
	}
}

func plainGet(w *world, host string) error {
	_, err := w.get(host)
	return err
}

func challengeGet(w *world, host string) error {
	_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{acme.ALPNProto}})
	return err
}

// Answers that make no sense are asked for again a few times, and not for as long
// as the attempt may last.
func TestGarbageIsPolledAFewTimes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = 4 * time.Minute
		w.mustGet("b.example.com")
		w.ca.Garbage(acmetest.Match{Endpoint: acmetest.Order, Host: "a.example.com"})
		begin := time.Now()
		if _, err := w.get("a.example.com"); err == nil {
			t.Fatal("issued by garbage")
		}
		if n, d := w.ca.CountHost(acmetest.Order, "a.example.com"), time.Since(begin); n > 10 || d > 30*time.Second {
			t.Errorf("%d requests for the order in %v, want 10 in 30 s at most", n, d)
		}
	})
}

type deafTransport struct{ hang chan struct{} }

func (d deafTransport) RoundTrip(*http.Request) (*http.Response, error) {
	<-d.hang
	return nil, fmt.Errorf("x")
}

// A transport that ignores its contexts holds a bounded number of goroutines, and
// Close names the CA that it hangs at.
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
