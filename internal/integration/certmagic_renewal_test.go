package integration

import (
	"context"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// wantReplaced checks that the newest order replaced a certificate, and that
// the site serves the new one.
func (s *certmagicSite) wantReplaced(t *testing.T, certID, name string) {
	t.Helper()
	order := s.ca.lastOrder(t)
	if order.Replaces != certID || order.Status != acme.StatusValid {
		t.Fatalf("the newest order is %s and replaces %q, want %q", order.Status, order.Replaces, certID)
	}
	if leaf := s.visit(t, name, s.ca.Roots()); !leaf.Equal(order.Certificate) {
		t.Errorf("certificate %s is served, want %s", acmetest.CertID(leaf), acmetest.CertID(order.Certificate))
	}
}

// After a restart certmagic requests the window and renews at once.
func TestCertmagicRenewsByTheWindowAfterARestart(t *testing.T) {
	const name = "www.example.com"
	ca := newClientsCA(t, false)
	ca.RetryAfter(acmetest.RenewalInfo, "0")
	storage := storageIn(t.TempDir())
	s := newCertmagicSite(t, ca, storage, certmagic.ACMEIssuer{})
	s.manage(t, name)
	leaf := s.visit(t, name, ca.Roots())

	again := newCertmagicSite(t, ca, storage, certmagic.ACMEIssuer{})
	again.manage(t, name)
	if n := len(ca.Orders()); n != 1 || !again.visit(t, name, ca.Roots()).Equal(leaf) {
		t.Fatalf("%d orders: there was nothing to renew yet", n)
	}

	ca.setPast(leaf)
	third := newCertmagicSite(t, ca, storage, certmagic.ACMEIssuer{})
	third.manage(t, name)
	if n := len(ca.Orders()); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
	third.wantReplaced(t, acmetest.CertID(leaf), name)
}

// The maintenance requests the window again, which Retry-After allows here at
// once, and a goroutine renews.
func TestCertmagicRenewsByTheWindowDuringMaintenance(t *testing.T) {
	const name = "maintenance.example.com"
	ca := newClientsCA(t, false)
	ca.RetryAfter(acmetest.RenewalInfo, "0")
	s := newCertmagicSite(t, ca, storageIn(t.TempDir()), certmagic.ACMEIssuer{})
	s.manage(t, name)
	leaf := s.visit(t, name, ca.Roots())
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := s.cache.RenewManagedCertificates(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(ca.Orders()); n != 1 {
		t.Fatalf("%d orders: there was nothing to renew yet", n)
	}

	ca.setPast(leaf)
	if err := s.cache.RenewManagedCertificates(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case renewed := <-s.renewed:
		if renewed != name {
			t.Errorf("it has renewed the certificate for %q", renewed)
		}
	case <-ctx.Done():
		t.Fatal("it has not renewed the certificate")
	}
	// The event comes just before the certificate is served.
	for s.visit(t, name, ca.Roots()).Equal(leaf) && ctx.Err() == nil {
	}
	s.wantReplaced(t, acmetest.CertID(leaf), name)
}

// A forced renewal also names the certificate that it replaces.
func TestCertmagicReplacesACertificateOnce(t *testing.T) {
	const name = "www.example.com"
	ca := newClientsCA(t, false)
	s := newCertmagicSite(t, ca, storageIn(t.TempDir()), certmagic.ACMEIssuer{})
	s.manage(t, name)
	for range 2 { // the second renewal replaces the first one's certificate
		replaced := ca.Issued()[len(ca.Issued())-1]
		if err := s.RenewCertSync(t.Context(), name, true); err != nil {
			t.Fatal(err)
		}
		if got, want := ca.lastOrder(t).Replaces, acmetest.CertID(replaced); got != want {
			t.Errorf("the order replaces %q, want %q", got, want)
		}
	}
}

// Without renewal information in the directory, certmagic neither requests it
// nor sends "replaces".
func TestCertmagicRenewsWithoutRenewalInfo(t *testing.T) {
	const name = "www.example.com"
	ca := newClientsCA(t, false)
	ca.NoRenewalInfo = true
	ca.Lifetime = 90 * 24 * time.Hour
	s := newCertmagicSite(t, ca, storageIn(t.TempDir()), certmagic.ACMEIssuer{})
	s.manage(t, name)
	if err := s.RenewCertSync(t.Context(), name, true); err != nil {
		t.Fatal(err)
	}
	if o := ca.lastOrder(t); o.Replaces != "" || len(ca.Issued()) != 2 {
		t.Errorf("order %+v", o)
	}
	if n := ca.Count(acmetest.RenewalInfo); n != 0 {
		t.Errorf("it asked %d times for renewal information", n)
	}
}
