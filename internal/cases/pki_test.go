package cases

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"
)

// An issuer is an intermediate CA and its root, without ACME.
type issuer struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer
	serial             int64
}

func newIssuer(t *T) *issuer {
	t.Helper()
	rootKey, key := newKey(t), newKey(t)
	root, intermediate := caTemplate("Old Root"), caTemplate("Old Intermediate")
	is := &issuer{key: key, serial: 100}
	is.root = parse(t, sign(t, root, root, rootKey.Public(), rootKey))
	is.intermediate = parse(t, sign(t, intermediate, is.root, key.Public(), rootKey))
	return is
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

// leaf issues a certificate that is valid for 80 days.
func (is *issuer) leaf(t *T, public any, names ...string) []byte {
	t.Helper()
	is.serial++
	return sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(is.serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 80),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, is.intermediate, public, is.key)
}

func newKey(t *T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *T, template, parent *x509.Certificate, public any, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// pemCerts encodes certificates.
func pemCerts(ders ...[]byte) string {
	var b strings.Builder
	for _, der := range ders {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.String()
}

// pemKey encodes the result of a Marshal function of x509.
func pemKey(t *T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pemEC(t *T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	return pemKey(t, "EC PRIVATE KEY", der, err)
}

func pemPKCS8(t *T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pemKey(t, "PRIVATE KEY", der, err)
}
