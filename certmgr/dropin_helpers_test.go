package certmgr_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// inCA runs f in a bubble of virtual time with a CA, which edit may set up.
func inCA(t *testing.T, edit func(*acmetest.Server), f func(t *testing.T, ca *acmetest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewUnstartedServer()
		ca.ValidateInReply = acmetest.Never // so that authorizations are polled
		if edit != nil {
			edit(ca)
		}
		ca.StartMemory()
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(ca)
			}
			ca.Close()
		})
		f(t, ca)
	})
}

// clientOf returns a client that speaks to a CA.
func clientOf(ca *acmetest.Server) *acme.Client {
	return &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}
}

// start makes a Manager ready: names lead to it, and the test closes it.
func start(t *testing.T, ca *acmetest.Server, m *certmgr.Manager) {
	t.Helper()
	ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// hello is what programs make by hand to warm up: no connection, no context,
// no cipher suites.
func hello(host string) *tls.ClientHelloInfo { return &tls.ClientHelloInfo{ServerName: host} }

// serve has to succeed.
func serve(t *testing.T, g getter, h *tls.ClientHelloInfo) *tls.Certificate {
	t.Helper()
	cert, err := g.GetCertificate(h)
	if err != nil {
		t.Fatalf("GetCertificate(%q): %v", h.ServerName, err)
	}
	if err := cert.Leaf.VerifyHostname(strings.TrimSuffix(h.ServerName, ".")); err != nil {
		t.Fatal(err)
	}
	return cert
}

// testCA signs certificates that never saw an ACME server, for filling caches.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	leaf crypto.Signer // key of every leaf that names no other
}

func newTestCA() *testCA {
	ca := &testCA{key: newECDSAKey(), leaf: newECDSAKey()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(9, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	ca.cert = tmpl
	ca.cert = ca.sign(tmpl, ca.key.Public())
	return ca
}

// leafSpec says what a leaf looks like. Zero dates mean one that has most of
// 90 days left, a nil key the CA's usual one.
type leafSpec struct {
	host                string
	key                 crypto.Signer
	notBefore, notAfter time.Time
}

func leafFor(host string) leafSpec { return leafSpec{host: host} }

// bundle returns a cache entry: the key, a leaf and the CA's certificate.
func (ca *testCA) bundle(s leafSpec) []byte {
	if s.key == nil {
		s.key = ca.leaf
	}
	if s.notAfter.IsZero() {
		s.notBefore = time.Now().Add(-24 * time.Hour)
		s.notAfter = s.notBefore.AddDate(0, 0, 90)
	}
	leaf := ca.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: s.host}, DNSNames: []string{s.host},
		NotBefore: s.notBefore, NotAfter: s.notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, s.key.Public())
	data := pemKey(s.key)
	for _, c := range []*x509.Certificate{leaf, ca.cert} {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return data
}

func (ca *testCA) sign(tmpl *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// pemKey returns a key in the form in which autocert keeps it.
func pemKey(key crypto.Signer) []byte {
	block := &pem.Block{Type: "RSA PRIVATE KEY"}
	if k, ok := key.(*rsa.PrivateKey); ok {
		block.Bytes = x509.MarshalPKCS1PrivateKey(k)
		return pem.EncodeToMemory(block)
	}
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func newECDSAKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}
