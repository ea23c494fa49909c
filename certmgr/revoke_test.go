package certmgr_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

func (w *world) mustGetRSA() *tls.Certificate {
	w.t.Helper()
	cert, err := w.m.GetCertificate(rsaHello("a.example.com"))
	if err != nil || cert.Leaf.PublicKeyAlgorithm != x509.RSA {
		w.t.Fatalf("GetCertificate for RSA: %v", err)
	}
	return cert
}

func (w *world) mustRevoke(host string, reason acme.CRLReasonCode) {
	w.t.Helper()
	if err := w.m.Revoke(w.t.Context(), host, reason); err != nil {
		w.t.Fatalf("Revoke(%q): %v", host, err)
	}
}

// renewDuringRevocation has the certificate of a.example.com renewed while the CA
// takes its time to revoke it for a compromised key. It returns both certificates
// when the revocation has ended.
func (w *world) renewDuringRevocation() (old, renewed *tls.Certificate) {
	w.t.Helper()
	old = w.mustGet("a.example.com")
	fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.RevokeCert})
	var wg sync.WaitGroup
	wg.Go(func() { w.mustRevoke("a.example.com", acme.CRLReasonKeyCompromise) })
	synctest.Wait()
	if err := w.m.Renew(w.t.Context(), "a.example.com"); err != nil {
		w.t.Fatal(err)
	}
	renewed = w.mustGet("a.example.com")
	fault.Lift()
	wg.Wait()
	return old, renewed
}

// wantRevoked checks that the CA revoked these certificates and no other, and that
// there is one event for each.
func (w *world) wantRevoked(certs ...*tls.Certificate) {
	w.t.Helper()
	synctest.Wait()
	revoked := w.ca.Revoked()
	if len(revoked) != len(certs) {
		w.t.Fatalf("the CA revoked %d certificates, want %d", len(revoked), len(certs))
	}
	events := w.events.of(audit.CertificateRevoked)
	if len(events) != len(certs) {
		w.t.Fatalf("%d events of %d revocations: %v", len(events), len(certs), events)
	}
	for i, cert := range certs {
		if !revoked[i].Equal(cert.Leaf) {
			w.t.Errorf("another certificate was revoked")
		}
		if e := events[i]; e.Host != "a.example.com" || e.Serial != serialOf(cert.Leaf) {
			w.t.Errorf("the event does not say what was revoked: %v", e)
		}
	}
}

func TestRevokedCertificateIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]acme.CRLReasonCode{
		"unspecified": acme.CRLReasonUnspecified, "keyCompromise": acme.CRLReasonKeyCompromise, "superseded": acme.CRLReasonSuperseded,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				old := w.mustGet("a.example.com")
				b := w.mustGet("b.example.com")
				w.mustRevoke("A.Example.com.", reason)
				w.wantRevoked(old)
				if e := w.events.of(audit.CertificateRevoked)[0]; !strings.Contains(e.Reason, name) || !strings.Contains(e.Reason, "the account") {
					t.Errorf("the event does not tell the reason and who signed: %v", e)
				}
				time.Sleep(2 * time.Second)
				if now := w.mustGet("a.example.com"); now.Leaf.Equal(old.Leaf) || keysEqual(now, old) {
					t.Error("the revoked certificate or its key is still served")
				}
				w.wantOrders("a.example.com", 2)
				if !w.mustGet("b.example.com").Leaf.Equal(b.Leaf) {
					t.Error("another host lost its certificate")
				}
				time.Sleep(80 * day)
				w.wantOrders("a.example.com", 3) // the new one was on the schedule
			})
		})
	}
}

func TestRevokeCoversBothKeyTypes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ec, rs := w.mustGet("a.example.com"), w.mustGetRSA()
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		w.wantRevoked(ec, rs)
		time.Sleep(2 * time.Second)
		if w.mustGet("a.example.com").Leaf.Equal(ec.Leaf) || w.mustGetRSA().Leaf.Equal(rs.Leaf) {
			t.Error("a revoked certificate is served")
		}
	})
}

// What is not in memory is revoked by its entry in the Cache.
func TestRevokeReadsTheCache(t *testing.T) {
	for _, rsa := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			key, old := "a.example.com", (*tls.Certificate)(nil)
			if rsa {
				key, old = "a.example.com+rsa", w.mustGetRSA()
			} else {
				old = w.mustGet(key)
			}
			w.restart()
			w.mustRevoke("a.example.com", acme.CRLReasonCessationOfOperation)
			w.wantRevoked(old)
			if _, err := w.cache.Get(t.Context(), key); !errors.Is(err, certmgr.ErrCacheMiss) {
				t.Errorf("the entry %q is still there: %v", key, err)
			}
		})
	}
}

func TestRevokeOfAHostThatIsNotAllowedAnyMore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		w.m.Hosts.Remove("a.example.com")
		synctest.Wait()
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		w.wantRevoked(old)
		time.Sleep(100 * day)
		w.wantOrders("a.example.com", 1)
		if _, err := w.cache.Get(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrCacheMiss) {
			t.Errorf("the entry is still there: %v", err)
		}
	})
}

func TestHostOfAWildcardGetsANewCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Replace("*.example.com")
		old := w.mustGet("a.example.com")
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		w.wantRevoked(old)
		time.Sleep(2 * time.Second)
		w.wantOrders("a.example.com", 2)
	})
}

func TestCessationOrdersNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.mustRevoke("a.example.com", acme.CRLReasonCessationOfOperation)
		time.Sleep(100 * day)
		w.wantOrders("a.example.com", 1)
		w.mustGet("a.example.com") // it is still allowed: a visitor has it issued
		w.wantOrders("a.example.com", 2)
	})
}

// What another machine renewed stays in the Cache, and is taken from there.
func TestRevokeLeavesAnotherMachinesCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		time.Sleep(time.Second)
		other := w.manager()
		other.Audit = nil
		defer other.Close()
		w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig()})
		if err := other.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.reach()
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		w.wantRevoked(old)
		synctest.Wait()
		if w.mustGet("a.example.com").Leaf.Equal(old.Leaf) {
			t.Error("the revoked certificate is served")
		}
		w.wantOrders("a.example.com", 2) // the other machine's included
	})
}

func TestRevokedBeforeIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		w.ca.Revoke(old.Leaf)
		w.mustRevoke("a.example.com", acme.CRLReasonSuperseded)
		w.wantRevoked(old)
	})
}

// Two operators revoke one certificate, and not its replacement as well.
func TestConcurrentRevokesAreOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.RevokeCert})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { w.mustRevoke("a.example.com", acme.CRLReasonSuperseded) })
		}
		synctest.Wait()
		fault.Lift()
		wg.Wait()
		w.wantRevoked(old)
		if n := w.ca.Count(acmetest.RevokeCert); n != 1 {
			t.Errorf("%d requests to revoke, want 1", n)
		}
	})
}

// A renewal that ends while the old certificate is being revoked is served, and
// renewed in its turn.
func TestRenewalDuringARevocationStays(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old, renewed := w.renewDuringRevocation()
		w.wantRevoked(old)
		time.Sleep(2 * time.Second)
		if !w.mustGet("a.example.com").Leaf.Equal(renewed.Leaf) {
			t.Error("the renewed certificate was taken out of service")
		}
		w.wantOrders("a.example.com", 2)
		time.Sleep(80 * day)
		w.wantOrders("a.example.com", 3)
	})
}
