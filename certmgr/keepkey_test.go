package certmgr_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// By default each renewal has a new key (TestCertificatesAreRenewedInTheBackground),
// with KeepKey none has, for both key types and over restarts.
func TestKeepKeyKeepsTheKeyOverRenewals(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.KeepKey = keep
			ec, rs := w.mustGet("a.example.com"), w.mustGetRSA()
			for range 2 {
				time.Sleep(70 * day)
				if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
					t.Fatal(err)
				}
				newEC, newRSA := w.mustGet("a.example.com"), w.mustGetRSA()
				if newEC.Leaf.Equal(ec.Leaf) || newRSA.Leaf.Equal(rs.Leaf) {
					t.Fatal("nothing was renewed")
				}
				if keysEqual(ec, newEC) != keep || keysEqual(rs, newRSA) != keep {
					t.Errorf("KeepKey %v: keys kept: ECDSA %v, RSA %v", keep, keysEqual(ec, newEC), keysEqual(rs, newRSA))
				}
				ec, rs = newEC, newRSA
				w.restart()
				w.m.KeepKey = keep
				w.mustGet("a.example.com")
				w.mustGetRSA()
			}
		})
	}
}

func TestKeyOfARevokedCertificateIsNotKept(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]acme.CRLReasonCode{"keyCompromise": acme.CRLReasonKeyCompromise, "superseded": acme.CRLReasonSuperseded} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.KeepKey = true
			old := w.mustGet("a.example.com")
			w.mustRevoke("a.example.com", reason)
			time.Sleep(2 * time.Second)
			now := w.mustGet("a.example.com")
			if keysEqual(old, now) {
				t.Errorf("%s: the key was kept", name)
			}
			time.Sleep(100 * day)
			if !keysEqual(now, w.mustGet("a.example.com")) {
				t.Errorf("%s: the new key was not kept", name)
			}
		})
	}
}

// A renewal that kept a key which is revoked before the renewal has ended comes to
// nothing: what the CA issued is revoked as well, and another one is had.
func TestKeyThatIsCompromisedDuringItsRenewalIsNotServed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeepKey = true
		old := w.mustGet("a.example.com")
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.Finalize})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.m.Renew(t.Context(), "a.example.com"); err == nil || !strings.Contains(err.Error(), "revoked") {
				t.Errorf("Renew: %v, want one that says revoked", err)
			}
		})
		time.Sleep(time.Second) // the renewal has chosen its key
		w.mustRevoke("a.example.com", acme.CRLReasonKeyCompromise)
		fault.Lift()
		wg.Wait()
		if revoked := w.ca.Revoked(); len(revoked) != 2 {
			t.Errorf("%d certificates with the compromised key are revoked, want 2", len(revoked))
		}
		time.Sleep(2 * time.Second)
		if keysEqual(old, w.mustGet("a.example.com")) {
			t.Error("the compromised key is served")
		}
	})
}

// The same for a renewal that ends before the CA has revoked the key.
func TestRenewalWithACompromisedKeyIsRevokedToo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeepKey = true
		old, renewed := w.renewDuringRevocation()
		w.wantRevoked(old, renewed)
		time.Sleep(2 * time.Second)
		if keysEqual(old, w.mustGet("a.example.com")) {
			t.Error("the compromised key is served")
		}
	})
}
