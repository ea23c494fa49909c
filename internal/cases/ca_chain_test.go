package cases

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// B04: a chain has a certificate twice, lacks one, or is in another order
// (hashicorp/vault#14348, cert-manager/cert-manager#3984 and #4074,
// eu-emi/canl-java#116). A chain that clients can verify is accepted: refusing
// it would waste a certificate per attempt.
func TestAChainThatIsNotPerfectIsServed(t *testing.T) {
	table.Run(t, "B04", func(t *T) {
		for _, tt := range []struct {
			name string
			edit func(chain [][]byte) [][]byte
		}{
			{"intermediate twice", func(c [][]byte) [][]byte { return [][]byte{c[0], c[1], c[1]} }},
			{"leaf twice", func(c [][]byte) [][]byte { return [][]byte{c[0], c[0], c[1]} }},
			{"leaf alone", func(c [][]byte) [][]byte { return [][]byte{c[0]} }},
			{"leaf last", func(c [][]byte) [][]byte { return [][]byte{c[1], c[0]} }},
		} {
			t.Run(tt.name, func(t *T) {
				bubble(t, func(t *T, w *world) {
					w.ca.EditChain(host, tt.edit)
					_, err := w.until(host, time.Hour, 24*time.Hour)
					if n := w.issued(); err != nil || n != 1 {
						t.Fatalf("%d certificates issued, want 1; %v", n, err)
					}
					cert, err := w.get(host)
					if err != nil {
						t.Fatal(err)
					}
					if leaf := parse(t, cert.Certificate[0]); leaf.VerifyHostname(host) != nil {
						t.Errorf("the first certificate is not the leaf but %v", leaf.Subject)
					}
				})
			})
		}
		t.Run("several ways", func(t *T) { // to two roots, through a cross-signed intermediate
			set := func(ca *acmetest.Server) { ca.AlternateChains = 1 }
			bubbleCA(t, set, func(t *T, w *world) {
				both := intermediatesOf(t, w)
				w.ca.EditChain(host, func(c [][]byte) [][]byte { return append([][]byte{c[0]}, both...) })
				cert, err := w.get(host)
				if err != nil {
					t.Fatal(err)
				}
				for i, roots := range []*x509.CertPool{w.ca.Roots(), w.ca.AlternateRoots(1)} {
					if err := verify(t, cert, roots); err != nil {
						t.Errorf("a client with root %d: %v", i, err)
					}
				}
			})
		})
	})
}

// intermediatesOf returns the intermediates of all chains of the CA. It obtains
// a certificate for another host.
func intermediatesOf(t *T, w *world) [][]byte {
	t.Helper()
	const other = "other.example.com"
	w.restart(host, other)
	var mu sync.Mutex
	var intermediates [][]byte
	fault := w.ca.EditChain(other, func(chain [][]byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		intermediates = append(intermediates, chain[1])
		return chain
	})
	defer fault.Lift()
	mustObtain(t, w, other)
	mu.Lock()
	defer mu.Unlock()
	if len(intermediates) != 2 {
		t.Fatalf("%d chains, want 2", len(intermediates))
	}
	return intermediates
}

// verify verifies like a client with these roots.
func verify(t *T, cert *tls.Certificate, roots *x509.CertPool) error {
	t.Helper()
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		intermediates.AddCert(parse(t, der))
	}
	_, err := parse(t, cert.Certificate[0]).Verify(x509.VerifyOptions{
		DNSName: host, Roots: roots, Intermediates: intermediates})
	return err
}

func parse(t *T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
