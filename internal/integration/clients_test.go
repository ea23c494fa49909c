package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// clientsCA is the fake CA for a test of a third-party client. It is not
// started yet, so that the test can set its fields.
type clientsCA struct {
	*acmetest.Server
	memory bool // in memory and in a bubble, where waiting takes no time

	// directory is the directory's URL with a query that no other CA has. acmez,
	// and certmagic with it, keeps directories by URL, for the whole process and
	// for 12 hours, but the port of a closed CA may become that of another.
	directory string
}

// inBothModes runs a test twice: against the fake CA on a loopback port, with
// servers that listen; and in memory within a synctest bubble.
func inBothModes(t *testing.T, test func(*testing.T, *clientsCA)) {
	t.Helper()
	t.Run("listener", func(t *testing.T) { test(t, newClientsCA(t, false)) })
	t.Run("memory", func(t *testing.T) { inMemory(t, test) })
}

// inMemory runs a test only in memory, because its client has long waits.
func inMemory(t *testing.T, test func(*testing.T, *clientsCA)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newClientsCA(t, true)) })
}

func newClientsCA(t *testing.T, memory bool) *clientsCA {
	ca := &clientsCA{Server: acmetest.NewUnstartedServer(), memory: memory}
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			t.Logf("what the CA was asked:\n%v", ca.Server)
		}
	})
	return ca
}

func (ca *clientsCA) start() {
	if ca.memory {
		ca.StartMemory()
	} else {
		ca.Start()
	}
	ca.directory = ca.URL + "?" + rand.Text()
}

// point makes a name lead to servers with this configuration and this handler;
// either may be nil.
func (ca *clientsCA) point(t *testing.T, host string, config *tls.Config, h http.Handler) {
	t.Helper()
	target := acmetest.Target{TLSConfig: config, HTTPHandler: h}
	if !ca.memory {
		target = acmetest.Target{}
		if config != nil {
			target.TLSAddr = serveTLS(t, listen(t), config)
		}
		if h != nil {
			l := listen(t)
			serveHTTP(t, l, h)
			target.HTTPAddr = l.Addr().String()
		}
	}
	ca.Resolve(host, target)
}

// setPast moves the renewal window of a certificate into the past.
func (ca *clientsCA) setPast(leaf *x509.Certificate) acmetest.RenewalWindow {
	now := time.Now().Truncate(time.Second)
	w := acmetest.RenewalWindow{
		Start:          now.Add(-2 * time.Hour),
		End:            now.Add(-time.Hour),
		ExplanationURL: "https://ca.example.org/incident",
	}
	ca.SetRenewalWindow(leaf, w)
	return w
}

// lastOrder returns the newest order.
func (ca *clientsCA) lastOrder(t *testing.T) acmetest.PlacedOrder {
	t.Helper()
	orders := ca.Orders()
	if len(orders) == 0 {
		t.Fatal("the CA has seen no order")
	}
	return orders[len(orders)-1]
}

// wantRevoked checks which certificates the CA has revoked.
func (ca *clientsCA) wantRevoked(t *testing.T, want ...*x509.Certificate) {
	t.Helper()
	got := ca.Revoked()
	if len(got) != len(want) {
		t.Fatalf("%d certificates are revoked, want %d", len(got), len(want))
	}
	for i, leaf := range want {
		if !got[i].Equal(leaf) {
			t.Errorf("revoked certificate %d is for %v, want that for %v", i, got[i].DNSNames, leaf.DNSNames)
		}
	}
}

// wantBadNonces checks that the CA refused at least one nonce, so that the test
// has shown something.
func (ca *clientsCA) wantBadNonces(t *testing.T) {
	t.Helper()
	if !slices.ContainsFunc(ca.Requests(), func(r acmetest.Request) bool { return r.Problem == "badNonce" }) {
		t.Error("no nonce was refused")
	}
}

// challengeCerts are the certificates with which a site answers tls-alpn-01.
type challengeCerts struct {
	certMu sync.Mutex
	certs  map[string]*tls.Certificate // by server name
}

// setCert makes a DNS name or IP address answer with a certificate, or no
// longer if it is nil.
func (c *challengeCerts) setCert(identifier string, cert *tls.Certificate) {
	c.certMu.Lock()
	defer c.certMu.Unlock()
	if c.certs == nil {
		c.certs = make(map[string]*tls.Certificate)
	}
	c.certs[challengeName(identifier)] = cert
}

func (c *challengeCerts) tlsConfig() *tls.Config {
	return &tls.Config{
		NextProtos: []string{"acme-tls/1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.certMu.Lock()
			defer c.certMu.Unlock()
			if cert := c.certs[hello.ServerName]; cert != nil {
				return cert, nil
			}
			return nil, errors.New("there is no challenge for " + hello.ServerName)
		},
	}
}

// challengeName returns the server name in a tls-alpn-01 handshake for a DNS
// name or an IP address (RFC 8737, section 3, and RFC 8738, section 6).
func challengeName(identifier string) string {
	reversed, err := dns.ReverseAddr(identifier)
	if err != nil {
		return identifier // not an IP address
	}
	return strings.TrimSuffix(reversed, ".")
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// parseChain reads a chain in PEM.
func parseChain(t *testing.T, chainPEM []byte) [][]byte {
	t.Helper()
	var chain [][]byte
	for {
		block, rest := pem.Decode(chainPEM)
		if block == nil {
			break
		}
		chain, chainPEM = append(chain, block.Bytes), rest
	}
	if len(chainPEM) > 0 {
		t.Fatalf("%q follows the chain", chainPEM)
	}
	return chain
}

// verifyChain returns the leaf of a chain in DER. It returns an error if the
// chain does not lead to the roots or is not valid for one of the names.
func verifyChain(t *testing.T, chain [][]byte, roots *x509.CertPool, names ...string) (*x509.Certificate, error) {
	t.Helper()
	if len(chain) < 2 {
		t.Fatalf("the chain has %d certificates, want a leaf and an intermediate", len(chain))
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		options.Intermediates.AddCert(c)
	}
	for _, name := range names {
		options.DNSName = strings.Replace(name, "*", "any", 1)
		if _, err := leaf.Verify(options); err != nil {
			return leaf, err
		}
	}
	return leaf, nil
}

// mustVerify is verifyChain for chains that must be valid.
func mustVerify(t *testing.T, chain [][]byte, roots *x509.CertPool, names ...string) *x509.Certificate {
	t.Helper()
	leaf, err := verifyChain(t, chain, roots, names...)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// issueCases are certificates that the clients obtain. The first name of a case
// identifies it.
var issueCases = []struct {
	challenge string
	names     []string
}{
	{"tls-alpn-01", []string{"www.example.com"}},
	{"tls-alpn-01", []string{"192.0.2.7"}},
	{"tls-alpn-01", []string{"2001:db8::7"}},
	{"http-01", []string{"a.example.com", "b.example.com"}},
	{"http-01", []string{"192.0.2.8", "2001:db8::8", "ip.example.com"}},
	{"dns-01", []string{"dns.example.com"}},
	{"dns-01", []string{"*.example.com", "example.com"}},
	{"dns-01", []string{"*.xn--bcher-kva.example"}},
}
