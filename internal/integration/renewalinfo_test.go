package integration

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/acmeclient"
)

// A Manager requests renewal information minutes after it got a certificate,
// too late for these tests. So the requests are tested by themselves, and so
// are the orders; when it orders is tested in virtual time.

// askPebble requests the renewal information of a certificate as a Manager
// does.
func askPebble(t *testing.T, p *pebble, certID string) (acmeclient.RenewalInfo, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	ca := acmeclient.New(acmeclient.Config{DirectoryURL: p.directory, HTTPClient: &http.Client{Transport: p.transport}, UserAgent: "nostall-test"})
	return ca.RenewalInfo(ctx, certID)
}

// setRenewalInfo makes p answer requests for a certificate's renewal
// information with any text.
func (p *pebble) setRenewalInfo(t *testing.T, leaf *x509.Certificate, answer string) {
	t.Helper()
	err := postJSON(t.Context(), p.transport, p.management+"/set-renewal-info/", map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
		"ARIResponse": answer,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// renewed is the certificate of a running Manager, from its own Pebble that can
// replace it. Earlier traffic is discarded.
type renewed struct {
	*manager
	p    *pebble
	addr string
	leaf *x509.Certificate
}

const renewedHost = "www.example.org"

func newRenewed(t *testing.T, store certmgr.Cache) *renewed {
	t.Helper()
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	m := newManager(t, p, store, renewedHost)
	r := &renewed{manager: m, p: p, addr: serveTLS(t, l, m.TLSConfig())}
	r.leaf = mustVisit(t, r.addr, renewedHost, p.roots, nil)
	for !replaceable(r.leaf) {
		r.renew(t, m)
		r.leaf = mustVisit(t, r.addr, renewedHost, p.roots, nil)
	}
	m.traffic.reset()
	return r
}

// renew makes m renew it, which may be another Manager, and checks that one
// certificate was issued for that.
func (r *renewed) renew(t *testing.T, m *manager) {
	t.Helper()
	m.traffic.reset()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := m.Renew(ctx, renewedHost); err != nil {
		t.Fatal(err)
	}
	if n := m.traffic.accepted(certURL); n != 1 {
		t.Errorf("%d certificates downloaded, want 1", n)
	}
}

// replaceable reports whether Pebble can replace a certificate; one in 256 it
// cannot. Pebble v2.10.1 stores serial numbers without the zero byte that DER
// puts before a high first bit, and looks them up with it: it does not find the
// order of such a certificate, and answers 500.
func replaceable(leaf *x509.Certificate) bool { return leaf.SerialNumber.BitLen()%8 != 0 }

// wantReplaced is the expected "replaces" of the order that renews a
// certificate.
func wantReplaced(leaf *x509.Certificate) []string {
	if !replaceable(leaf) {
		return []string{""}
	}
	return []string{acmeclient.CertID(leaf)}
}

// replaced returns which certificates the orders that p accepted from m
// replace, as p reports them.
func (m *manager) replaced() (certIDs []string) {
	for _, r := range m.traffic.all() {
		if r.resource == newOrder && r.status == http.StatusCreated {
			certIDs = append(certIDs, r.replaces)
		}
	}
	return certIDs
}

func TestRenewalInfo(t *testing.T) {
	r := newRenewed(t, new(cache.Memory))
	certID := acmeclient.CertID(r.leaf)

	// By default Pebble suggests two days around the moment when a third of the
	// lifetime is left.
	info, err := askPebble(t, r.p, certID)
	if err != nil {
		t.Fatal(err)
	}
	lifetime := r.leaf.NotAfter.Sub(r.leaf.NotBefore)
	if due := r.leaf.NotAfter.Add(-lifetime / 3); info.Start.After(due) || info.End.Before(due) {
		t.Errorf("the window is %v to %v, want %v to be within", info.Start, info.End, due)
	}
	if info.RetryAfter != 6*time.Hour || info.ExplanationURL != "" {
		t.Errorf("the answer is %+v, want to ask again in 6h", info)
	}

	// The window is moved into the past, as before a revocation.
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	end := start.Add(time.Hour)
	r.p.setRenewalInfo(t, r.leaf, fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"https://ca.example/incident"}`,
		start.Format(time.RFC3339), end.Format(time.RFC3339)))
	info, err = askPebble(t, r.p, certID)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Start.Equal(start) || !info.End.Equal(end) || info.ExplanationURL != "https://ca.example/incident" {
		t.Errorf("the answer is %+v, want the window from %v to %v and why", info, start, end)
	}

	for _, answer := range []string{
		fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, end.Format(time.RFC3339), start.Format(time.RFC3339)),
		`{"suggestedWindow":null}`, `<html>`, ` `,
	} {
		r.p.setRenewalInfo(t, r.leaf, answer)
		if info, err := askPebble(t, r.p, certID); err == nil {
			t.Errorf("the answer %q counts as %+v", answer, info)
		}
	}
}

// Pebble accepts only valid identifiers of certificates.
func TestRenewalInfoOfAForeignCertificate(t *testing.T) {
	r := newRenewed(t, new(cache.Memory))
	authority, serial, _ := strings.Cut(acmeclient.CertID(r.leaf), ".")
	for certID, want := range map[string]int{
		authority + "." + serial:                0,
		authority + ".AIdlQyE":                  http.StatusNotFound,   // never issued
		"aYhba4dGQEHhs3uEe6CuLN4ByNQ." + serial: http.StatusBadRequest, // by another CA: the example of RFC 9773
		authority + "." + serial + "=":          http.StatusBadRequest,
	} {
		_, err := askPebble(t, r.p, certID)
		got := 0
		if problem, ok := acmeclient.Problem(err); ok {
			got = problem.StatusCode
		} else if err != nil {
			t.Errorf("%s: %v", certID, err)
		}
		if got != want {
			t.Errorf("%s: status %d (%v), want %d", certID, got, err, want)
		}
		if err != nil && acmeclient.IsTemporary(err) {
			t.Errorf("%s: %v counts as temporary", certID, err)
		}
	}
}

// A revoked certificate must be renewed at once.
func TestRenewalInfoOfARevokedCertificate(t *testing.T) {
	r := newRenewed(t, new(cache.Memory))
	if err := r.Revoke(t.Context(), renewedHost, acme.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	info, err := askPebble(t, r.p, acmeclient.CertID(r.leaf))
	if err != nil {
		t.Fatal(err)
	}
	if now := time.Now(); info.End.After(now) {
		t.Errorf("the window ends at %v, want before %v", info.End, now)
	}
}

func TestRenewalReplaces(t *testing.T) {
	r := newRenewed(t, new(cache.Memory))
	// Twice, so that the second renewal replaces the first one's certificate.
	for range 2 {
		r.renew(t, r.manager)
		if got, want := r.replaced(), wantReplaced(r.leaf); !slices.Equal(got, want) {
			t.Fatalf("the orders replace %q, want %q", got, want)
		}
		next := mustVisit(t, r.addr, renewedHost, r.p.roots, nil)
		if next.Equal(r.leaf) {
			t.Fatal("the old certificate is still served")
		}
		r.leaf = next
	}
}

// The field that x/crypto/acme cannot set costs a signature, which must be
// right after every refused nonce too.
func TestRenewalReplacesWithRefusedNonces(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l), nonceReject: 40})
	m := newManager(t, p, new(cache.Memory), renewedHost)
	addr := serveTLS(t, l, m.TLSConfig())
	for range 5 {
		leaf := mustVisit(t, addr, renewedHost, p.roots, nil)
		m.traffic.reset()
		if err := m.Renew(t.Context(), renewedHost); err != nil {
			t.Fatal(err)
		}
		if got, want := m.replaced(), wantReplaced(leaf); !slices.Equal(got, want) {
			t.Fatalf("the orders replace %q, want %q", got, want)
		}
	}
}

// withoutLocks hides the locks of a cache. With them a machine looks whether another
// one has renewed, so that it asks for no second replacement.
type withoutLocks struct{ cache.Cache }

// Another machine with the same account has already replaced the certificate,
// and this one does not know yet. Pebble refuses a second replacement.
func TestCertificateReplacedByAnotherMachine(t *testing.T) {
	store := new(cache.Memory)
	r := newRenewed(t, store)
	other := newManager(t, r.p, withoutLocks{store}, renewedHost)
	other.obtain(t, renewedHost) // from the cache
	if n := other.traffic.sent(newOrder); n != 0 {
		t.Fatalf("%d orders for a certificate in the cache", n)
	}
	r.renew(t, r.manager)
	// Until its order is done with, another machine would resume that.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := store.Get(t.Context(), renewedHost+"+order"); err != nil {
			if !errors.Is(err, cache.ErrMiss) {
				t.Fatal(err)
			}
			break
		}
	}

	// The first machine's server answers the challenge, from the cache.
	r.renew(t, other)
	if n := other.traffic.refused("alreadyReplaced"); n != 1 {
		t.Errorf("%d orders were refused with alreadyReplaced, want 1: %v", n, other.traffic.all())
	}
	if got := other.replaced(); !slices.Equal(got, []string{""}) {
		t.Errorf("the orders that were accepted replace %q, want one without", got)
	}
	other.close(t)
	if failed := other.events.of(audit.IssuanceFailed); len(failed) != 0 {
		t.Errorf("the renewal failed: %v", failed)
	}
}

// A certificate of another account cannot be replaced, but is renewed.
func TestCertificateOfAnotherAccount(t *testing.T) {
	store := new(cache.Memory)
	r := newRenewed(t, store)
	if err := store.Delete(t.Context(), "acme_account+key"); err != nil {
		t.Fatal(err)
	}
	other := newManager(t, r.p, store, renewedHost)
	other.obtain(t, renewedHost)
	r.renew(t, other)
	if n := other.traffic.refused("unauthorized"); n != 1 {
		t.Errorf("%d orders were refused with unauthorized, want 1: %v", n, other.traffic.all())
	}
	if got := other.replaced(); !slices.Equal(got, []string{""}) {
		t.Errorf("the orders that were accepted replace %q, want one without", got)
	}
}
