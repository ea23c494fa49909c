package acmetest_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestListenersAreDistinct: programs that find certificates by subject, by
// issuer and serial number, or by key, can tell those of two servers apart.
func TestListenersAreDistinct(t *testing.T) {
	a, b := acmetest.NewServer(), acmetest.NewServer()
	defer a.Close()
	defer b.Close()
	one, two := a.Certificate(), b.Certificate()
	switch {
	case one.Subject.String() == two.Subject.String():
		t.Errorf("both have the subject %v", one.Subject)
	case one.Issuer.String() == two.Issuer.String():
		t.Errorf("both have the issuer %v", one.Issuer)
	case one.SerialNumber.Cmp(two.SerialNumber) == 0:
		t.Errorf("both have the serial number %d", one.SerialNumber)
	case len(one.SubjectKeyId) == 0 || len(one.AuthorityKeyId) == 0:
		t.Error("no key identifier")
	}

	// One client for both, by their roots in one file.
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(append(a.RootPEM(), b.RootPEM()...)) {
		t.Fatal("the roots in PEM cannot be read")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	mustGet(t, &http.Client{Transport: transport}, a.URL)
	mustGet(t, &http.Client{Transport: transport}, b.URL)
}

// TestCertificateAsInHTTPTest: a pool with only the listener's certificate is
// enough for a client in Go, as with httptest.Server.
func TestCertificateAsInHTTPTest(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	defer s.Close()
	if s.Certificate() != nil {
		t.Error("a listener's certificate before the start")
	}
	s.Start()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	mustGet(t, &http.Client{Transport: transport}, s.URL)

	memory := acmetest.NewMemoryServer()
	defer memory.Close()
	if memory.Certificate() != nil {
		t.Error("a listener's certificate in memory")
	}
}

// TestRootIsKept: two servers, one after the other, with one root.
func TestRootIsKept(t *testing.T) {
	root := acmetest.NewRoot()
	want := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate[0]}))
	root.Leaf = nil // as tls.X509KeyPair leaves it in programs built for Go before 1.23
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(want))
	for range 2 {
		s := acmetest.NewUnstartedServer()
		s.Root = root
		if got := string(s.RootPEM()); got != want {
			t.Errorf("before the start the root is\n%s, want\n%s", got, want)
		}
		s.Start()
		if got := string(s.RootPEM()); got != want {
			t.Errorf("the root is\n%s, want\n%s", got, want)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		mustGet(t, &http.Client{Transport: transport}, s.URL)
		transport.CloseIdleConnections()
		c := newRawClient(t, s)
		c.register()
		leaf, intermediates := c.newLeaf("www.example.com"), x509.NewCertPool()
		intermediates.AppendCertsFromPEM(c.get(c.get(s.Orders()[0].URL).str("certificate")).body)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, DNSName: "www.example.com"}); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

// TestWrongRootPanics: what cannot be a root is found at the start.
func TestWrongRootPanics(t *testing.T) {
	good, other, key := acmetest.NewRoot(), acmetest.NewRoot(), newECKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for want, root := range map[string]*tls.Certificate{
		"no certificate":       {},
		"cannot be read":       {Certificate: [][]byte{{0}}},
		"no private key":       {Certificate: good.Certificate},
		"not that of its cert": {Certificate: good.Certificate, PrivateKey: other.PrivateKey},
		"not that of a CA":     {Certificate: [][]byte{leaf}, PrivateKey: key},
	} {
		s := acmetest.NewUnstartedServer()
		s.Root = root
		mustPanic(t, want, s.StartMemory)
		s.Close()
	}
}
