package integration

import (
	"crypto/x509"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// issue obtains a certificate by dns-01.
func (s *acmezSite) issue(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	return mustVerify(t, s.obtain(t, s.params(t, names...))[0], s.ca.Roots(), names...)
}

// renewalInfo requests the renewal information of a certificate.
func (s *acmezSite) renewalInfo(t *testing.T, leaf *x509.Certificate) acme.RenewalInfo {
	t.Helper()
	info, err := s.GetRenewalInfo(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestAcmezReadsTheRenewalWindow(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")

		info := s.renewalInfo(t, leaf)
		if want := acmetest.CertID(leaf); info.UniqueIdentifier != want {
			t.Errorf("certificate %s, by acmetest %s", info.UniqueIdentifier, want)
		}
		window := info.SuggestedWindow
		if third := leaf.NotAfter.AddDate(0, 0, -30); third.Before(window.Start) || third.After(window.End) {
			t.Errorf("window %v to %v, want it around %v", window.Start, window.End, third)
		}
		if at := info.SelectedTime; at.Before(window.Start) || at.After(window.End) {
			t.Errorf("time %v is not in the window %v to %v", at, window.Start, window.End)
		}
		if info.RetryAfter == nil || time.Until(*info.RetryAfter).Round(time.Minute) != 6*time.Hour || info.NeedsRefresh() {
			t.Errorf("ask again at %v, want in 6 hours", info.RetryAfter)
		}

		want := ca.setPast(leaf)
		moved := s.renewalInfo(t, leaf)
		if moved.SameWindow(info) || !moved.SuggestedWindow.Start.Equal(want.Start) ||
			!moved.SuggestedWindow.End.Equal(want.End) || moved.ExplanationURL != want.ExplanationURL {
			t.Errorf("window %v, want %v", moved, want)
		}
		if !moved.SelectedTime.Before(time.Now()) {
			t.Errorf("renewal at %v, want now", moved.SelectedTime)
		}

		ca.SetRenewalWindow(leaf, acmetest.RenewalWindow{})
		if back := s.renewalInfo(t, leaf); !back.SameWindow(info) {
			t.Errorf("window %v, want %v again", back.SuggestedWindow, window)
		}
	})
}

// DER keeps such a number positive by a leading byte 00, which the identifier
// includes (RFC 9773, section 4.1).
func TestAcmezFindsACertificateWhoseSerialNumberHasAHighFirstBit(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		ca.EditCertificate("www.example.com", func(leaf *x509.Certificate) {
			leaf.SerialNumber = big.NewInt(0x87654321)
		})
		leaf := s.issue(t, "www.example.com")
		if info := s.renewalInfo(t, leaf); !strings.HasSuffix(info.UniqueIdentifier, ".AIdlQyE") {
			t.Errorf("certificate %s, want the serial number of the RFC's example", info.UniqueIdentifier)
		}
	})
}

func TestAcmezIsToldOfARevocationByRenewalInfo(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		ca.Revoke(leaf)
		if info := s.renewalInfo(t, leaf); !info.SelectedTime.Before(time.Now()) {
			t.Errorf("renewal of a revoked certificate at %v, want now", info.SelectedTime)
		}
	})
}

func TestAcmezRefusesAWindowThatEndsBeforeItStarts(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		asked := ca.Count(acmetest.RenewalInfo)
		now := time.Now()
		ca.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: now, End: now.Add(-time.Hour)})
		if info, err := s.GetRenewalInfo(t.Context(), leaf); err == nil {
			t.Errorf("it took %v", info.SuggestedWindow)
		}
		if n := ca.Count(acmetest.RenewalInfo) - asked; n != 3 {
			t.Errorf("it asked %d times, want its 3", n)
		}
	})
}

func TestAcmezSeesACAWithoutRenewalInfo(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.NoRenewalInfo = true
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		if _, err := s.GetRenewalInfo(t.Context(), leaf); !errors.Is(err, acme.ErrUnsupported) {
			t.Errorf("error %v, want that it is not supported", err)
		}
	})
}

func TestAcmezReplacesACertificateOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		ca.setPast(leaf)

		params := s.params(t, "www.example.com")
		params.Replaces = leaf
		renewed := mustVerify(t, s.obtain(t, params)[0], ca.Roots(), "www.example.com")
		if renewed.Equal(leaf) {
			t.Error("the certificate is the old one")
		}
		if o := ca.lastOrder(t); o.Replaces != acmetest.CertID(leaf) || !o.Certificate.Equal(renewed) {
			t.Errorf("the CA saw an order that replaces %q, want %q", o.Replaces, acmetest.CertID(leaf))
		}

		order := acme.Order{
			Identifiers: []acme.Identifier{{Type: "dns", Value: "www.example.com"}},
			Replaces:    acmetest.CertID(leaf),
		}
		_, err := s.NewOrder(t.Context(), s.account, order)
		wantAcmezProblem(t, err, http.StatusConflict, "alreadyReplaced")

		// The new certificate is a different one.
		order.Replaces = acmetest.CertID(renewed)
		if order, err = s.NewOrder(t.Context(), s.account, order); err != nil {
			t.Fatal(err)
		}
		if want := acmetest.CertID(renewed); order.Replaces != want {
			t.Errorf("the order's replaces is %q, want %q (RFC 9773, section 5)", order.Replaces, want)
		}
	})
}

func TestAcmezOrdersAgainWithoutReplacesIfRefused(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		for _, want := range []string{acmetest.CertID(leaf), ""} {
			params := s.params(t, "www.example.com")
			params.Replaces = leaf
			s.obtain(t, params)
			if got := ca.lastOrder(t).Replaces; got != want {
				t.Errorf("the order replaces %q, want %q", got, want)
			}
		}
	})
}

func TestAcmezMayNotReplaceWhatAnotherAccountOrdered(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "dns-01")
		leaf := s.issue(t, "www.example.com")
		var err error
		if s.account, err = s.NewAccount(t.Context(), acme.Account{PrivateKey: newECKey(t)}); err != nil {
			t.Fatal(err)
		}
		params := s.params(t, "www.example.com")
		params.Replaces = leaf
		_, err = s.ObtainCertificate(t.Context(), params)
		wantAcmezProblem(t, err, http.StatusForbidden, "unauthorized")
	})
}

func TestAcmezChoosesAProfile(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.Profiles, ca.DefaultProfile = acmetest.LetsEncryptProfiles(), "classic"
		s := newAcmezSite(t, ca, "dns-01", "http-01")
		directory, err := s.GetDirectory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if directory.Meta == nil {
			t.Fatal("the directory has no meta")
		}
		shown := slices.Sorted(maps.Keys(directory.Meta.Profiles))
		if want := []string{"classic", "shortlived", "tlsserver"}; !slices.Equal(shown, want) {
			t.Errorf("the directory shows the profiles %q, want %q", shown, want)
		}

		for _, test := range []struct {
			profile, name, commonName string
			lifetime                  time.Duration
		}{
			{"", "a.example.com", "a.example.com", 90 * 24 * time.Hour},
			{"classic", "b.example.com", "b.example.com", 90 * 24 * time.Hour},
			{"tlsserver", "c.example.com", "", 45 * 24 * time.Hour},
			{"shortlived", "192.0.2.7", "", 160 * time.Hour},
		} {
			ca.point(t, test.name, nil, s)
			params := s.params(t, test.name)
			params.Profile = test.profile
			leaf := mustVerify(t, s.obtain(t, params)[0], ca.Roots(), test.name)
			if got := leaf.NotAfter.Add(time.Second).Sub(leaf.NotBefore); got != test.lifetime {
				t.Errorf("profile %q: a lifetime of %v, want %v", test.profile, got, test.lifetime)
			}
			if leaf.Subject.CommonName != test.commonName {
				t.Errorf("profile %q: the common name is %q, want %q", test.profile, leaf.Subject.CommonName, test.commonName)
			}
		}

		// acmez requests none that the directory does not list.
		placed := ca.Count(acmetest.NewOrder)
		params := s.params(t, "www.example.com")
		params.Profile = "longlived"
		if _, err = s.ObtainCertificate(t.Context(), params); err == nil || ca.Count(acmetest.NewOrder) != placed {
			t.Errorf("an order with an unknown profile was placed, error %v", err)
		}
	})
}

func TestAcmezGetsAlternateChains(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		ca.AlternateChains = 2
		s := newAcmezSite(t, ca, "dns-01")
		chains := s.obtain(t, s.params(t, "www.example.com"))
		if len(chains) != 3 {
			t.Fatalf("%d chains, want 3", len(chains))
		}
		roots := []*x509.CertPool{ca.Roots(), ca.AlternateRoots(1), ca.AlternateRoots(2)}
		for i, chain := range chains {
			for j, pool := range roots {
				if _, err := verifyChain(t, chain, pool, "www.example.com"); (err == nil) != (i == j) {
					t.Errorf("chain %d under root %d: %v", i, j, err)
				}
			}
		}
	})
}
