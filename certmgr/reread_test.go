package certmgr_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// While an issuance hangs, handshakes find a certificate that another machine
// wrote.
func TestCertificateThatTurnsUpDuringAnIssuanceIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.wantErr("a.example.com", certmgr.ErrInFlight)
		now := time.Now()
		w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", now.Add(-day), now.Add(80*day)))
		time.Sleep(11 * time.Second)
		w.wantErr("a.example.com", certmgr.ErrInFlight) // has the cache read
		synctest.Wait()
		w.mustGet("a.example.com")
		if s := w.m.Snapshot(); s.Issuing != 1 {
			t.Errorf("%d issuances in flight, want the one that hangs", s.Issuing)
		}
	})
}

// Of two certificates the one that was issued later is served, whichever of them
// ends later: lifetimes shrink over the years.
func TestLaterCertificateIsServed(t *testing.T) {
	tests := []struct {
		name     string
		from, to time.Duration // of the one in the Cache; the one in memory is issued now, for 90 days
		loaded   bool
	}{
		{"issued earlier, ends later", -10 * day, 200 * day, false},
		{"issued earlier, ends earlier", -10 * day, 50 * day, false},
		{"issued later, ends earlier", 2 * time.Hour, 50 * day, true},
		{"issued later, ends later", 2 * time.Hour, 200 * day, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				have, now := w.mustGet("a.example.com").Leaf, time.Now()
				w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", now.Add(tt.from), now.Add(tt.to)))
				if err := certmgr.Load(t.Context(), w.m, "a.example.com", bundle.ECDSA); err != nil {
					t.Error(err)
				}
				if loaded := !w.mustGet("a.example.com").Leaf.Equal(have); loaded != tt.loaded {
					t.Errorf("the one from the Cache is served: %v, want %v", loaded, tt.loaded)
				}
			})
		})
	}
}

// A valid certificate in the cache is served instead of an expired one in memory,
// even if that was issued later.
func TestExpiredInMemoryGivesWayToValidInCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(5 * day) })
		w.mustGet("a.example.com")
		fault.Lift()
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		time.Sleep(6 * day)
		w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", time.Now().Add(-20*day), time.Now().Add(70*day)))
		time.Sleep(time.Minute)
		for range 3 {
			c, err := w.get("a.example.com")
			if err == nil && time.Now().After(c.Leaf.NotAfter) {
				t.Errorf("served a certificate that expired at %v, now is %v", c.Leaf.NotAfter, time.Now())
			}
			synctest.Wait()
		}
	})
}

func testBundle(t *testing.T, host string, from, to time.Time) []byte {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{host}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := bundle.Encode(key, [][]byte{der})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A certificate that another machine wrote, and that is due itself, is renewed once,
// also by a Manager that could not read the Cache before.
func TestCertificateThatTurnsUpAndIsDueIsRenewedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "a.example.com"
		w.m.Hosts = certmgr.MustAllowlist(host)
		w.cache.get(func(context.Context, string) error { return errDisk })
		w.m.Start(t.Context())
		time.Sleep(time.Minute)
		now := time.Now()
		w.cache.Cache.Put(t.Context(), host, testBundle(t, host, now.Add(-80*day), now.Add(10*day)))
		w.cache.get(nil)
		time.Sleep(time.Hour)
		if n := len(w.ca.Issued()); n != 1 {
			t.Errorf("%d certificates were issued, want 1", n)
		}
	})
}
