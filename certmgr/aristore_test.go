package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// serving has all machines serve a host, and returns its certificate.
func (w *world) serving(host string, machines []*certmgr.Manager) *tls.Certificate {
	w.t.Helper()
	var cert *tls.Certificate
	for i, m := range machines {
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		if err != nil {
			w.t.Fatalf("machine %d: %v", i, err)
		}
		if cert != nil && !cert.Leaf.Equal(c.Leaf) {
			w.t.Fatalf("machine %d serves another certificate", i)
		}
		cert = c
	}
	return cert
}

func closeAll(machines []*certmgr.Manager) {
	for _, m := range machines {
		m.Close()
	}
}

// The CA is asked about a certificate as often as by one machine, each machine
// picks its own moment in the window, and the certificate is renewed once.
func TestFleetAsksOnceWhenToRenew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, machines := w.fleet()
		defer closeAll(machines)
		cert := w.serving("a.example.com", machines)
		w.ca.SetRenewalWindow(cert.Leaf, acmetest.RenewalWindow{Start: time.Now().Add(30 * day), End: time.Now().Add(40 * day)})
		for range 28 {
			asked := w.asks()
			time.Sleep(day)
			if n := w.asks() - asked; n < 2 || n > 5 {
				t.Fatalf("asked %d times in a day, want 2 to 5", n)
			}
		}
		moments := make(map[time.Time]bool)
		for i, m := range machines {
			at := m.Snapshot().Hosts[0].RenewAt
			if at.Before(time.Now().Add(day)) || at.After(time.Now().Add(12*day)) {
				t.Errorf("machine %d renews at %v, which is not in the window", i, at)
			}
			moments[at] = true
		}
		if len(moments) != len(machines) {
			t.Errorf("the machines picked %d moments, want %d", len(moments), len(machines))
		}
		time.Sleep(13 * day)
		if again := w.serving("a.example.com", machines); again.Leaf.Equal(cert.Leaf) {
			t.Error("the certificate was not renewed in its window")
		}
		if n := len(w.ca.Orders()); n != 2 {
			t.Errorf("%d orders, want the first one and one renewal", n)
		}
	})
}

// A machine learns from the record of what is asked that another one has renewed the
// certificate, and asks no more about the one that it serves.
func TestFleetDoesNotAskAboutReplacedCertificates(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, machines := w.fleet()
		defer closeAll(machines)
		cert := w.serving("a.example.com", machines)
		time.Sleep(day)
		if err := machines[0].Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		if again := w.serving("a.example.com", machines); again.Leaf.Equal(cert.Leaf) {
			t.Error("a day after the renewal the old certificate is served")
		}
	})
}

// A machine that is cut off from the CA keeps no other one from asking, and what the
// CA refuses to tell is asked for later by all.
func TestFailedQuestionsOfAFleet(t *testing.T) {
	for _, test := range []struct {
		name        string
		cut         bool // machine 0 is cut off, else the CA answers 503
		least, most int  // questions in a day
	}{
		{"one machine is cut off", true, 2, 5},
		{"the CA refuses", false, 1, 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				_, machines := w.fleet()
				defer closeAll(machines)
				next := w.ca.Client().Transport
				machines[0].Client.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					if test.cut && strings.Contains(r.URL.Path, "renewal-info") {
						return nil, errors.New("dial tcp: i/o timeout")
					}
					return next.RoundTrip(r)
				})}
				w.serving("a.example.com", machines)
				if !test.cut {
					h := http.Header{"Retry-After": {"7200"}}
					w.ca.Status(acmetest.Match{Endpoint: acmetest.RenewalInfo}, http.StatusServiceUnavailable, h, acmetest.Problem{})
				}
				time.Sleep(day)
				asked := w.asks()
				time.Sleep(day)
				if n := w.asks() - asked; n < test.least || n > test.most {
					t.Errorf("the CA was asked %d times in a day, want %d to %d", n, test.least, test.most)
				}
			})
		})
	}
}

// While the store cannot be used, each machine asks for itself: the CA may be about
// to revoke.
func TestMachinesAskForThemselvesWhileTheStoreIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		w.serving("a.example.com", machines)
		store.down(true)
		time.Sleep(day)
		if n := w.asks(); n < 6 {
			t.Errorf("three machines asked %d times in a day, want each of them to ask", n)
		}
	})
}

// outdatedAnswers is a shared store whose reads of what the CA has told come each time
// first from before another machine has written that.
type outdatedAnswers struct {
	*leasing
	reads atomic.Int32
}

func (s *outdatedAnswers) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.HasSuffix(key, "+ari") {
		if s.reads.Add(1)%2 == 1 {
			return nil, certmgr.ErrCacheMiss
		}
	}
	return s.leasing.Get(ctx, key)
}

// Whoever finds no answer, and then gets the lock, looks once more: another machine may
// have asked in between.
func TestMachineThatWasLateToAskFindsTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		w.mustGet("a.example.com")
		for w.asks() == 0 {
			time.Sleep(time.Minute)
		}
		outdated := &outdatedAnswers{leasing: store}
		machines[1].Cache = outdated
		w.serving("a.example.com", machines[:2])
		for outdated.reads.Load() == 0 {
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := w.asks(); n != 1 || outdated.reads.Load() != 2 {
			t.Errorf("the CA was asked %d times, and the store %d times; want 1 and 2", n, outdated.reads.Load())
		}
	})
}
