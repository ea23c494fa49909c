package integration

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestXcryptoManagesAnAccount(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.Terms = "https://ca.example.org/terms"
		ca.start()
		s := unregisteredXcryptoSite(t, ca)
		ctx := t.Context()
		if _, err := s.GetReg(ctx, ""); !errors.Is(err, acme.ErrNoAccount) {
			t.Errorf("error %v before there is an account, want %v", err, acme.ErrNoAccount)
		}
		asked := ""
		account, err := s.Register(ctx, &acme.Account{Contact: []string{"mailto:a@example.com"}}, func(terms string) bool {
			asked = terms
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if asked != ca.Terms {
			t.Errorf("asked about the terms %q, want %q", asked, ca.Terms)
		}
		if account.Status != acme.StatusValid || account.URI != ca.Accounts()[0].URL || account.OrdersURL == "" {
			t.Errorf("new account: %+v", account)
		}
		if _, err := s.Register(ctx, &acme.Account{}, acme.AcceptTOS); !errors.Is(err, acme.ErrAccountAlreadyExists) {
			t.Errorf("error %v the second time, want %v", err, acme.ErrAccountAlreadyExists)
		}

		account.Contact = []string{"mailto:b@example.com"}
		if _, err := s.UpdateReg(ctx, account); err != nil {
			t.Fatal(err)
		}
		if got, err := s.GetReg(ctx, ""); err != nil || !slices.Equal(got.Contact, account.Contact) {
			t.Errorf("account %+v, error %v, want the new contact", got, err)
		}

		if err := s.DeactivateReg(ctx); err != nil {
			t.Fatal(err)
		}
		if status := ca.Accounts()[0].Status; status != acme.StatusDeactivated {
			t.Errorf("the account is %s", status)
		}
		_, err = s.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com"))
		wantXcryptoProblem(t, err, http.StatusUnauthorized, "unauthorized")
	})
}

func TestXcryptoRollsTheAccountKeyOver(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newXcryptoSite(t, ca)
		ctx, oldKey := t.Context(), s.Key
		leaf, url := s.issue(t, newECKey(t), "dns-01", "www.example.com")

		newKey := newECKey(t)
		if err := s.AccountKeyRollover(ctx, newKey); err != nil {
			t.Fatal(err)
		}
		if s.Key != newKey {
			t.Error("the client has not taken the new key")
		}
		thumbprint, err := acme.JWKThumbprint(newKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		if accounts := ca.Accounts(); len(accounts) != 1 || accounts[0].Thumbprint != thumbprint {
			t.Errorf("accounts %+v, want one with the key %s", accounts, thumbprint)
		}
		if _, err := s.FetchCert(ctx, url, true); err != nil {
			t.Errorf("the new key fetches what the old one ordered: %v", err)
		}
		s.issue(t, newECKey(t), "dns-01", "www.example.com")
		if err := s.RevokeCert(ctx, nil, leaf.Raw, acme.CRLReasonSuperseded); err != nil {
			t.Errorf("the new key revokes what the old one ordered: %v", err)
		}

		old := unregisteredXcryptoSite(t, ca)
		old.Key = oldKey
		if _, err := old.GetReg(ctx, ""); !errors.Is(err, acme.ErrNoAccount) {
			t.Errorf("error %v with the old key, want %v", err, acme.ErrNoAccount)
		}
		if _, err := old.Register(ctx, &acme.Account{}, acme.AcceptTOS); err != nil {
			t.Errorf("an account of its own for the old key: %v", err)
		}
		wantXcryptoProblem(t, old.AccountKeyRollover(ctx, newKey), http.StatusConflict, "malformed")
	})
}

func TestXcryptoBindsAnExternalAccount(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		secret := []byte("0123456789abcdef0123456789abcdef")
		ca.EAB = map[string][]byte{"kid-1": secret}
		ca.start()
		s := unregisteredXcryptoSite(t, ca)
		ctx := t.Context()
		directory, err := s.Discover(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !directory.ExternalAccountRequired {
			t.Error("the directory does not say that a binding is required")
		}
		for _, test := range []struct {
			binding *acme.ExternalAccountBinding
			problem string
		}{
			{nil, "externalAccountRequired"},
			{&acme.ExternalAccountBinding{KID: "kid-2", Key: secret}, "unauthorized"},
			{&acme.ExternalAccountBinding{KID: "kid-1", Key: secret[1:]}, "unauthorized"},
			{&acme.ExternalAccountBinding{KID: "kid-1", Key: secret}, ""},
		} {
			_, err := s.Register(ctx, &acme.Account{ExternalAccountBinding: test.binding}, acme.AcceptTOS)
			if test.problem != "" {
				wantXcryptoProblem(t, err, http.StatusForbidden, test.problem)
			} else if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestXcryptoRevokes(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newXcryptoSite(t, ca)
		ctx := t.Context()
		key := newECKey(t)
		byAccount, _ := s.issue(t, newECKey(t), "dns-01", "a.example.com")
		byKey, _ := s.issue(t, key, "dns-01", "b.example.com")

		stranger := unregisteredXcryptoSite(t, ca)
		if _, err := stranger.Register(ctx, &acme.Account{}, acme.AcceptTOS); err != nil {
			t.Fatal(err)
		}
		err := stranger.RevokeCert(ctx, nil, byAccount.Raw, acme.CRLReasonUnspecified)
		wantXcryptoProblem(t, err, http.StatusForbidden, "unauthorized")
		err = s.RevokeCert(ctx, key, byAccount.Raw, acme.CRLReasonUnspecified) // the key of another certificate
		wantXcryptoProblem(t, err, http.StatusForbidden, "unauthorized")
		err = s.RevokeCert(ctx, nil, byAccount.Raw, acme.CRLReasonCACompromise)
		wantXcryptoProblem(t, err, http.StatusBadRequest, "badRevocationReason")
		ca.wantRevoked(t)

		if err := s.RevokeCert(ctx, nil, byAccount.Raw, acme.CRLReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		if err := stranger.RevokeCert(ctx, key, byKey.Raw, acme.CRLReasonKeyCompromise); err != nil {
			t.Fatal(err)
		}
		ca.wantRevoked(t, byAccount, byKey)
		// The client treats alreadyRevoked as a success; the CA has to send it.
		if err := s.RevokeCert(ctx, nil, byAccount.Raw, acme.CRLReasonSuperseded); err != nil {
			t.Errorf("revoked before: %v", err)
		}
		if last := ca.Requests()[ca.Count(acmetest.Any)-1]; last.Problem != "alreadyRevoked" {
			t.Errorf("revoked before: %q, want alreadyRevoked", last.Problem)
		}
	})
}

func TestXcryptoGetsAlternateChains(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.AlternateChains = 2
		s := newXcryptoSite(t, ca)
		_, url := s.issue(t, newECKey(t), "dns-01", "www.example.com")
		alternates, err := s.ListCertAlternates(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if len(alternates) != 2 {
			t.Fatalf("alternate chains at %q, want 2", alternates)
		}
		for i, alternate := range alternates {
			chain, err := s.FetchCert(t.Context(), alternate, true)
			if err != nil {
				t.Fatal(err)
			}
			mustVerify(t, chain, ca.AlternateRoots(i+1), "www.example.com")
			if _, err := verifyChain(t, chain, ca.Roots(), "www.example.com"); err == nil {
				t.Errorf("alternate chain %d leads to the usual root", i+1)
			}
		}
	})
}

func TestXcryptoUsesAnAuthorizationAgainUntilItIsDeactivated(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.ReuseAuthorizations = true
		s := newXcryptoSite(t, ca)
		ctx := t.Context()
		s.issue(t, newECKey(t), "dns-01", "www.example.com")
		again, err := s.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if again.Status != acme.StatusReady {
			t.Errorf("the second order is %s, want ready", again.Status)
		}
		if err := s.RevokeAuthorization(ctx, again.AuthzURLs[0]); err != nil {
			t.Fatal(err)
		}
		if got := ca.Authorizations("www.example.com"); !slices.Equal(got, []string{"deactivated"}) {
			t.Errorf("authorizations are %q, want one that is deactivated", got)
		}
		if third, err := s.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com")); err != nil {
			t.Error(err)
		} else if third.Status != acme.StatusPending {
			t.Errorf("the third order is %s, want pending", third.Status)
		}
	})
}

// The client supports neither renewal information nor "replaces": OrderOption
// is sealed, and only a transport that signs again could add it. That would be
// our code and not a third-party client, so acmez and certmagic test
// "replaces". Renewal information is a plain GET, for which nothing is signed.
func TestXcryptoClientCanReadRenewalInfoByAPlainGET(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newXcryptoSite(t, ca)
		leaf, _ := s.issue(t, newECKey(t), "dns-01", "www.example.com")

		var directory struct{ RenewalInfo string }
		getJSON(t, s.HTTPClient, ca.URL, &directory)
		var info struct {
			SuggestedWindow struct{ Start, End time.Time }
			ExplanationURL  string
		}
		url := strings.TrimSuffix(directory.RenewalInfo, "/") + "/" + acmetest.CertID(leaf)
		header := getJSON(t, s.HTTPClient, url, &info)
		if w := info.SuggestedWindow; !w.Start.After(time.Now()) || !w.End.After(w.Start) || w.End.After(leaf.NotAfter) {
			t.Errorf("window %v to %v for a certificate until %v", w.Start, w.End, leaf.NotAfter)
		}
		if got := header.Get("Retry-After"); got != "21600" {
			t.Errorf("Retry-After %q, want 6 hours", got)
		}

		want := ca.setPast(leaf)
		getJSON(t, s.HTTPClient, url, &info)
		if w := info.SuggestedWindow; !w.Start.Equal(want.Start) || !w.End.Equal(want.End) ||
			info.ExplanationURL != want.ExplanationURL {
			t.Errorf("%+v, want %+v", info, want)
		}
	})
}

func getJSON(t *testing.T, client *http.Client, url string, v any) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(v); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, error %v", url, res.StatusCode, err)
	}
	return res.Header
}
