package integration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"slices"
	"testing"

	"github.com/mholt/acmez/v3/acme"
)

func TestAcmezManagesAnAccount(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.Terms = "https://ca.example.org/terms"
		ca.start()
		s := unregisteredAcmezSite(t, ca, "dns-01")
		ctx := t.Context()

		unknown := acme.Account{PrivateKey: newECKey(t)}
		_, err := s.GetAccount(ctx, unknown)
		wantAcmezProblem(t, err, http.StatusBadRequest, "accountDoesNotExist")
		_, err = s.NewAccount(ctx, unknown)
		wantAcmezProblem(t, err, http.StatusBadRequest, "malformed") // it did not agree to the terms

		s.account.Contact = []string{"mailto:a@example.com"}
		if s.account, err = s.NewAccount(ctx, s.account); err != nil {
			t.Fatal(err)
		}
		url := s.account.Location
		if s.account.Status != acme.StatusValid || url == "" || s.account.Orders == "" {
			t.Errorf("new account: %+v", s.account)
		}
		found, err := s.GetAccount(ctx, acme.Account{PrivateKey: s.account.PrivateKey})
		if err != nil || found.Location != url || !slices.Equal(found.Contact, s.account.Contact) {
			t.Errorf("the account that exists: %+v, %v", found, err)
		}

		// acmez sends the account as it received it, with status and orders.
		s.account.Contact = []string{"mailto:b@example.com", "mailto:c@example.com"}
		updated, err := s.UpdateAccount(ctx, s.account)
		if err != nil {
			t.Fatal(err)
		}
		if updated.Location != url || !slices.Equal(ca.Accounts()[0].Contact, s.account.Contact) {
			t.Errorf("updated account %+v, by the CA %+v", updated, ca.Accounts())
		}
		s.issue(t, "www.example.com")

		s.account.Status = acme.StatusDeactivated
		gone, err := s.UpdateAccount(ctx, s.account)
		if err != nil || gone.Status != acme.StatusDeactivated {
			t.Fatalf("deactivated account: %+v, %v", gone, err)
		}
		_, err = s.NewOrder(ctx, s.account, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: "a.example.com"}}})
		wantAcmezProblem(t, err, http.StatusUnauthorized, "unauthorized")
	})
}

func TestAcmezUsesEveryKindOfKey(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []crypto.Signer{p384, p521, rsa2048} {
			account, err := s.NewAccount(t.Context(), acme.Account{PrivateKey: key})
			if err != nil {
				t.Fatalf("%T: %v", key, err)
			}
			s.account = account
			s.issue(t, "www.example.com")
		}
	})
}

func TestAcmezRollsTheAccountKeyOver(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		ctx, old := t.Context(), s.account
		first := s.issue(t, "www.example.com")

		rolled, err := s.AccountKeyRollover(ctx, old, newECKey(t))
		if err != nil {
			t.Fatal(err)
		}
		s.account = rolled
		thumbprint, err := rolled.Thumbprint()
		if err != nil {
			t.Fatal(err)
		}
		if accounts := ca.Accounts(); len(accounts) != 1 || accounts[0].Thumbprint != thumbprint {
			t.Errorf("accounts %+v, want one with the key %s", accounts, thumbprint)
		}
		s.issue(t, "www.example.com")
		if err := s.RevokeCertificate(ctx, s.account, first, nil, acme.ReasonSuperseded); err != nil {
			t.Errorf("the new key revokes what the old one ordered: %v", err)
		}
		_, err = s.NewOrder(ctx, old, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: "www.example.com"}}})
		wantAcmezProblem(t, err, http.StatusBadRequest, "malformed") // signed by another key

		other, err := s.NewAccount(ctx, acme.Account{PrivateKey: newECKey(t)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.AccountKeyRollover(ctx, other, rolled.PrivateKey)
		wantAcmezProblem(t, err, http.StatusConflict, "malformed") // that key is in use
	})
}

func TestAcmezBindsAnExternalAccount(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		secret := []byte("0123456789abcdef0123456789abcdef")
		ca.EAB = map[string][]byte{"kid-1": secret}
		ca.start()
		s := unregisteredAcmezSite(t, ca, "dns-01")
		ctx := t.Context()
		directory, err := s.GetDirectory(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if directory.Meta == nil || !directory.Meta.ExternalAccountRequired {
			t.Error("the directory does not say that a binding is required")
		}
		_, err = s.NewAccount(ctx, s.account)
		wantAcmezProblem(t, err, http.StatusForbidden, "externalAccountRequired")

		for _, test := range []struct {
			kid  string
			key  []byte
			want bool
		}{
			{"kid-2", secret, false},
			{"kid-1", secret[1:], false},
			{"kid-1", secret, true},
		} {
			account := s.account
			eab := acme.EAB{KeyID: test.kid, MACKey: base64.RawURLEncoding.EncodeToString(test.key)}
			if err := account.SetExternalAccountBinding(ctx, s.Client.Client, eab); err != nil {
				t.Fatal(err)
			}
			account, err := s.NewAccount(ctx, account)
			if !test.want {
				wantAcmezProblem(t, err, http.StatusForbidden, "unauthorized")
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			s.account = account
			s.issue(t, "www.example.com")
		}
	})
}

func TestAcmezRevokes(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		ctx := t.Context()
		byAccount := s.issue(t, "a.example.com")
		stranger, err := s.NewAccount(ctx, acme.Account{PrivateKey: newECKey(t)})
		if err != nil {
			t.Fatal(err)
		}
		err = s.RevokeCertificate(ctx, stranger, byAccount, nil, acme.ReasonUnspecified)
		wantAcmezProblem(t, err, http.StatusForbidden, "unauthorized")
		err = s.RevokeCertificate(ctx, s.account, byAccount, newECKey(t), acme.ReasonUnspecified)
		wantAcmezProblem(t, err, http.StatusForbidden, "unauthorized")
		err = s.RevokeCertificate(ctx, s.account, byAccount, nil, acme.ReasonCACompromise)
		wantAcmezProblem(t, err, http.StatusBadRequest, "badRevocationReason")
		ca.wantRevoked(t)

		if err := s.RevokeCertificate(ctx, s.account, byAccount, nil, acme.ReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		err = s.RevokeCertificate(ctx, s.account, byAccount, nil, acme.ReasonSuperseded)
		wantAcmezProblem(t, err, http.StatusBadRequest, "alreadyRevoked")

		key := newECKey(t)
		chains, err := s.ObtainCertificateForSANs(ctx, s.account, key, []string{"b.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		byKey := mustVerify(t, parseChain(t, chains[0].ChainPEM), ca.Roots(), "b.example.com")
		if err := s.RevokeCertificate(ctx, acme.Account{}, byKey, key, acme.ReasonKeyCompromise); err != nil {
			t.Fatal(err)
		}

		// An account that controls the names may revoke too (RFC 8555, section
		// 7.6).
		byName := s.issue(t, "c.example.com")
		s.account = stranger
		s.issue(t, "c.example.com")
		if err := s.RevokeCertificate(ctx, stranger, byName, nil, acme.ReasonCessationOfOperation); err != nil {
			t.Fatal(err)
		}
		ca.wantRevoked(t, byAccount, byKey, byName)
	})
}

func TestAcmezUsesAnAuthorizationAgainUntilItIsDeactivated(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.ReuseAuthorizations = true
		s := newAcmezSite(t, ca, "dns-01")
		ctx := t.Context()
		s.issue(t, "www.example.com")

		order := acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: "www.example.com"}}}
		again, err := s.NewOrder(ctx, s.account, order)
		if err != nil {
			t.Fatal(err)
		}
		if again.Status != acme.StatusReady {
			t.Errorf("the second order is %s, want ready", again.Status)
		}
		authorization, err := s.DeactivateAuthorization(ctx, s.account, again.Authorizations[0])
		if err != nil || authorization.Status != acme.StatusDeactivated {
			t.Fatalf("the authorization is %s, error %v, want deactivated", authorization.Status, err)
		}
		if again, err = s.GetOrder(ctx, s.account, again); err != nil || again.Status != acme.StatusInvalid {
			t.Errorf("the order without its authorization is %s, error %v, want invalid", again.Status, err)
		}
		if third, err := s.NewOrder(ctx, s.account, order); err != nil || third.Status != acme.StatusPending {
			t.Errorf("the third order is %s, error %v, want pending", third.Status, err)
		}
	})
}
