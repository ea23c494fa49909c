package certmgr_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// issuedBy returns a cache entry with a certificate for host of the named CA.
func issuedBy(host string, issuer pkix.Name) []byte {
	key := testKeys()[bundle.ECDSA]
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: issuer, IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(77), DNSNames: []string{host},
		NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(89 * day).Truncate(time.Second)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), newECDSAKey())
	if err != nil {
		panic(err)
	}
	return mustEncode(key, der)
}

// letsEncryptStaging is an issuer of Let's Encrypt's staging environment.
var letsEncryptStaging = pkix.Name{Country: []string{"US"}, Organization: []string{"(STAGING) Let's Encrypt"}, CommonName: "(STAGING) Riddling Rhubarb R12"}

// A certificate for tests is served, told, and replaced at once. All others
// are kept to their ends.
func TestCertificateForTestsIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		issuer   pkix.Name
		replaced bool
	}{
		"staging":         {letsEncryptStaging, true},
		"old staging":     {pkix.Name{CommonName: "Fake LE Intermediate X1"}, true},
		"Pebble":          {pkix.Name{CommonName: "Pebble Intermediate CA 23f4a1"}, true},
		"Boulder":         {pkix.Name{CommonName: "h2ppy h2cker fake CA"}, true},
		"Let's Encrypt":   {pkix.Name{Organization: []string{"Let's Encrypt"}, CommonName: "R12"}, false},
		"another CA":      {pkix.Name{Organization: []string{"ZeroSSL"}, CommonName: "ZeroSSL ECC Domain Secure Site CA"}, false},
		"nothing at all":  {pkix.Name{}, false},
		"test in a name":  {pkix.Name{Organization: []string{"Contest Ltd"}, CommonName: "Attestation CA"}, false},
		"acmetest itself": {pkix.Name{Organization: []string{"acmetest"}, CommonName: "acmetest"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts = certmgr.MustAllowlist("a.example.com")
				w.keep("a.example.com", issuedBy("a.example.com", tt.issuer))
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				cert := w.mustGet("a.example.com")
				if got := cert.Leaf.SerialNumber.Int64(); got != 77 {
					t.Errorf("the certificate %d is served at first, want that of the cache", got)
				}
				time.Sleep(10 * time.Minute)
				if replaced := w.mustGet("a.example.com").Leaf.SerialNumber.Int64() != 77; replaced != tt.replaced {
					t.Errorf("replaced: %v, want %v", replaced, tt.replaced)
				}
				told := w.events.of(audit.CertificateUntrusted)
				if tt.replaced != (len(told) == 1) {
					t.Fatalf("told: %v, want an event if it is replaced (%v)", told, tt.replaced)
				}
				if tt.replaced && !strings.Contains(told[0].Reason, tt.issuer.CommonName) {
					t.Errorf("the event does not name the issuer: %v", told[0])
				}
				if loaded := w.events.of(audit.CertificateLoaded); len(loaded) == 0 || !strings.Contains(loaded[0].Reason, tt.issuer.CommonName) {
					t.Errorf("the event of the loaded certificate does not name its issuer: %v", loaded)
				}
				if n := w.ca.Count(acmetest.RenewalInfo); tt.replaced && n > 1 {
					t.Errorf("the CA was asked %d times about certificates, one of which is not its own", n)
				}
			})
		})
	}
}

// While it is there, page and alerts have a warning. It is gone afterwards.
func TestCertificateForTestsIsAWarning(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.keep("a.example.com", issuedBy("a.example.com", letsEncryptStaging))
		fault := w.ca.Drop(acmetest.Match{})
		w.mustGet("a.example.com")
		time.Sleep(time.Hour)
		snap := w.m.Snapshot()
		if len(snap.Warnings) != 1 || !strings.Contains(snap.Warnings[0], letsEncryptStaging.CommonName) || w.m.Metrics().Warnings != 1 {
			t.Errorf("warnings: %q, %d; want one that names the issuer", snap.Warnings, w.m.Metrics().Warnings)
		}
		if st := snap.Hosts[0]; st.RenewalCause != certmgr.RenewalCauseTests || !strings.Contains(st.Issuer, letsEncryptStaging.CommonName) || st.State != certmgr.StateValid {
			t.Errorf("the host is %+v", st)
		}
		fault.Lift()
		time.Sleep(day)
		if snap := w.m.Snapshot(); len(snap.Warnings) != 0 || w.m.Metrics().Warnings != 0 {
			t.Errorf("warnings after it was replaced: %q", snap.Warnings)
		}
	})
}

// A CA that is itself for tests keeps its own certificates.
func TestCAForTestsReplacesNothing(t *testing.T) {
	for _, url := range []string{certmgr.LetsEncryptStagingURL, "https://pebble.ci.example:14000/dir",
		"https://localhost:14000/dir", "https://127.0.0.1:14000/dir", "https://[::1]:14000/dir"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.Client = &acme.Client{DirectoryURL: url, HTTPClient: &http.Client{Transport: noNetwork{}}}
			w.keep("a.example.com", issuedBy("a.example.com", letsEncryptStaging))
			w.mustGet("a.example.com")
			time.Sleep(time.Hour)
			if told := w.events.of(audit.CertificateUntrusted); len(told) != 0 || len(w.events.of(audit.IssuanceStarted)) != 0 {
				t.Errorf("%s: told: %v", url, w.events)
			}
		})
	}
}

// noNetwork is a transport without a network.
type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

// Without a Cache there is one warning, if anything can be issued. A Manager that
// allows nobody has another one instead.
func TestNoCacheIsAWarning(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(w *world)
		want int
		says string
	}{
		"list":           {func(w *world) { w.m.Cache = nil }, 1, "Manager.Cache"},
		"policy":         {func(w *world) { w.m.Cache, w.m.Hosts, w.m.HostPolicy = nil, nil, certmgr.AllowAnyHost }, 1, "Manager.Cache"},
		"no host at all": {func(w *world) { w.m.Cache, w.m.Hosts = nil, nil }, 1, "no host is allowed"},
		"cache":          {func(*world) {}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(w)
				w.m.Start(t.Context())
				w.get("a.example.com")
				w.get("b.example.com")
				told := w.events.of(audit.ConfigurationWarning)
				if len(told) != tt.want || len(w.m.Snapshot().Warnings) != tt.want || w.m.Metrics().Warnings != tt.want {
					t.Fatalf("told: %v, warnings: %q; want %d", told, w.m.Snapshot().Warnings, tt.want)
				}
				if tt.want > 0 && (!strings.Contains(told[0].Reason, tt.says) || told[0].Seq != 1) {
					t.Errorf("told: %v, want the field's name, before anything else", told[0])
				}
			})
		})
	}
}

// orders returns how many orders the CA got for host.
func (w *world) orders(host string) int { return w.ca.CountHost(acmetest.NewOrder, host) }

func (w *world) wantOrders(host string, want int) {
	w.t.Helper()
	if got := w.orders(host); got != want {
		w.t.Fatalf("the CA got %d orders for %s, want %d", got, host, want)
	}
}
