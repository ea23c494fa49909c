package certmgr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// officeCA signs certificates that an operator has bought.
type officeCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newOfficeCA(t testing.TB) *officeCA {
	t.Helper()
	ca := &officeCA{key: newECDSAKey()}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Office CA"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(20, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, ca.key.Public(), ca.key)
	if err == nil {
		ca.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// signed is what an officeCA signs; zero fields have defaults.
type signed struct {
	names  []string
	ips    []net.IP
	key    crypto.Signer // P-256
	from   time.Time     // an hour ago
	life   time.Duration // 90 days from now
	change func(*x509.Certificate)
}

// sign returns a certificate with its chain and key.
func (ca *officeCA) sign(t testing.TB, s signed) *tls.Certificate {
	t.Helper()
	if s.key == nil {
		s.key = newECDSAKey()
	}
	if s.from.IsZero() {
		s.from = time.Now().Add(-time.Hour)
	}
	if s.life == 0 {
		s.life = 90*24*time.Hour + time.Hour
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     s.names,
		IPAddresses:  s.ips,
		NotBefore:    s.from,
		NotAfter:     s.from.Add(s.life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if s.change != nil {
		s.change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, s.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: s.key}
}

// certPEM and keyPEM return the files of a certificate.
func certPEM(c *tls.Certificate) string {
	var b bytes.Buffer
	for _, der := range c.Certificate {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.String()
}

func keyPEM(t testing.TB, c *tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// putPair writes name.crt and name.key into a folder.
func putPair(t testing.TB, dir, name string, c *tls.Certificate) {
	t.Helper()
	replaceFile(t, filepath.Join(dir, name+".crt"), certPEM(c))
	replaceFile(t, filepath.Join(dir, name+".key"), keyPEM(t, c))
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// ownLooks is long enough for changed files to be noticed and found unchanged.
const ownLooks = 35 * time.Second

func newP384Key(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newP224Key(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEd25519Key(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSAKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signBelow is sign by an intermediate CA: the chain has the root's certificate
// third, and a leaf alone is not enough.
func (ca *officeCA) signBelow(t testing.TB, s signed) *tls.Certificate {
	t.Helper()
	below := &officeCA{key: newECDSAKey()}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: "Office CA, desk"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, ca.cert, below.key.Public(), ca.key)
	if err == nil {
		below.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return below.sign(t, s)
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
