package certmgr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// For two years no client gets an expired certificate or waits, and nothing is
// renewed too often, at any lifetime.
func TestCertificatesAreRenewedInTheBackground(t *testing.T) {
	t.Parallel()
	for _, lifetime := range []time.Duration{90 * day, 45 * day, 160 * time.Hour} {
		t.Run(lifetime.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				first := w.mustGet("a.example.com")
				years := 2
				if lifetime < 7*day {
					years = 1
				}
				for range years * 365 {
					time.Sleep(day)
					start := time.Now()
					w.mustGet("a.example.com")
					if time.Since(start) != 0 {
						t.Fatal("a handshake waited for a renewal")
					}
				}
				last := w.mustGet("a.example.com")
				if keysEqual(first, last) {
					t.Error("the key was kept over renewals")
				}
				most := int(time.Duration(years*365)*day/(lifetime*2/5)) + 1
				if n := w.orders("a.example.com"); n > most {
					t.Errorf("%d orders in %d years, want %d at most", n, years, most)
				}
			}, func(ca *acmetest.Server) { ca.Lifetime = lifetime })
		})
	}
}

func keysEqual(a, b *tls.Certificate) bool {
	return string(a.Leaf.RawSubjectPublicKeyInfo) == string(b.Leaf.RawSubjectPublicKeyInfo)
}

func TestValidCertificateIsServedThroughAnOutage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		fault := w.ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal", Detail: "outage"})
		for time.Now().Add(day).Before(cert.Leaf.NotAfter) {
			time.Sleep(6 * time.Hour)
			w.mustGet("a.example.com")
		}
		if n := len(w.events.of(audit.IssuanceFailed)); n == 0 {
			t.Error("failing renewals were not reported")
		}
		time.Sleep(2 * day)
		err := w.wantErr("a.example.com", certmgr.ErrBackoff) // never an expired one
		if !errors.Is(err, certmgr.ErrCAUnavailable) {
			t.Errorf("%v does not say that it is the CA's outage", err)
		}
		expired := w.events.of(audit.CertificateExpired)
		if len(expired) != 1 || !expired[0].NotAfter.Equal(cert.Leaf.NotAfter) || expired[0].Time.Sub(cert.Leaf.NotAfter) > time.Minute { // it may come just after a try
			t.Errorf("the expiry was not reported once, when it came: %v", expired)
		}
		fault.Lift()
		time.Sleep(20 * time.Minute)
		w.mustGet("a.example.com") // the background probe has renewed it by now
	})
}

// Whatever a CA dates, and whatever RenewBefore says, renewal is no loop.
func TestNoRenewalLoop(t *testing.T) {
	edits := map[string]func(*x509.Certificate){
		"already due":     func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-1000 * day) },
		"very short":      func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now(), time.Now().Add(time.Second) },
		"already expired": func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day) },
		"not valid yet":   func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(day), time.Now().Add(90*day) },
		"ends at first":   func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(2*day), time.Now().Add(day) },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.RenewBefore = 10_000 * day
				w.ca.EditCertificate("a.example.com", edit)
				for range 60 {
					w.get("a.example.com")
					time.Sleep(time.Second)
				}
				if n := w.orders("a.example.com"); n > 2 {
					t.Errorf("%d orders within a minute", n)
				}
			})
		})
	}
}

// A certificate that another machine renewed is adopted, and nothing ordered.
func TestRenewalAdoptsFromTheSharedCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		time.Sleep(30 * day)
		other := w.manager()
		if err := other.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		other.Close()
		w.wantOrders("a.example.com", 2)
		time.Sleep(31 * day)
		w.wantOrders("a.example.com", 2)
		if cert := w.mustGet("a.example.com"); !cert.Leaf.NotAfter.After(old.Leaf.NotAfter) {
			t.Error("the other machine's certificate was not adopted")
		}
	})
}

func TestUnreadableCachePostponesRenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.cache.get(func(context.Context, string) error { return errDisk })
		time.Sleep(70 * day)
		w.wantOrders("a.example.com", 1)
		time.Sleep(time.Until(cert.Leaf.NotAfter) - 7*day) // less than 1/6 left
		w.wantOrders("a.example.com", 2)
	})
}

func TestRenewalAsksThePolicyAgain(t *testing.T) {
	var refuse atomic.Bool
	policy := func(context.Context, string) error {
		if refuse.Load() {
			return errors.New("no longer a customer")
		}
		return nil
	}
	policyWorld(t, policy, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		refuse.Store(true)
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		time.Sleep(100 * day)
		w.wantOrders("a.example.com", 1)
		if reads := w.cache.reads(); len(reads) != 0 {
			t.Errorf("cache reads for a host that is refused: %q", reads)
		}
		if n := len(w.events.of(audit.HostDropped)); n != 1 {
			t.Errorf("%d events of the drop, want 1", n)
		}
	})
}

// While a renewal fails it follows the backoff, for as long as it takes.
func TestFailingRenewalFollowsTheBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.ca.Unresolve("*")
		w.ca.Resolve("*", acmetest.Target{}) // moved away
		time.Sleep(time.Until(cert.Leaf.NotAfter) - time.Minute)
		w.mustGet("a.example.com")
		// 1 min, 10 min, hourly for a day, then daily for a month.
		if n := w.orders("a.example.com") - 1; n < 50 || n > 65 {
			t.Errorf("%d failing renewals in 30 days, want about 2+24+29", n)
		}
		w.reach()
		time.Sleep(27 * time.Hour)
		w.mustGet("a.example.com")
	})
}

func TestRenewReplacesBothKeyTypes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ecdsa := w.mustGet("a.example.com")
		rsaHello := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		rsa, err := w.m.GetCertificate(rsaHello)
		if err != nil || rsa.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Fatalf("a client of RSA alone got %v", err)
		}
		time.Sleep(time.Hour)
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		ecdsa2 := w.mustGet("a.example.com")
		rsa2, err := w.m.GetCertificate(rsaHello)
		if err != nil || keysEqual(ecdsa, ecdsa2) || keysEqual(rsa, rsa2) {
			t.Errorf("not both certificates were renewed: %v", err)
		}
		w.wantOrders("a.example.com", 4)
	})
}

// An event of a late renewal has a reason also if the cache is what fails.
func TestLateEventSaysWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cert := w.mustGet("a.example.com")
		w.cache.get(func(context.Context, string) error { return errors.New("disk on fire") })
		time.Sleep(time.Until(cert.Leaf.NotAfter))
		for _, e := range w.events.of(audit.RenewalLate) {
			if e.Err == nil || e.RetryAt.IsZero() {
				t.Errorf("no reason: %v", e)
			}
		}
	})
}
