package acmetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
)

// rawCSR is a CSR on the wire (RFC 2986, section 4).
type rawCSR struct {
	Info      rawCSRInfo
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type rawCSRInfo struct {
	Version    int
	Subject    pkix.RDNSequence
	Key        asn1.RawValue
	Attributes []asn1.RawValue `asn1:"tag:0,set"`
}

// TestCSRsThatWouldTakeLong: the key is looked at before it is used, so that a CSR cannot keep the CA busy.
func TestCSRsThatWouldTakeLong(t *testing.T) {
	s := NewUnstartedServer()
	defer s.Close()
	withModulus := func(bits uint) []byte {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		der, err := asn1.Marshal(rawCSR{
			Info:      rawCSRInfo{Key: asn1.RawValue{FullBytes: spki}},
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
			Signature: asn1.BitString{Bytes: make([]byte, bits/8), BitLength: int(bits / 8 * 8)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	names := make([]string, 100)
	for i := range names {
		names[i] = strings.Repeat(strings.Repeat("a", 62)+".", 4) + "a"
	}
	long, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, newKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		der  []byte
		want string
	}{
		{"the longest sensible one", long, "but the order is for"},
		{"RSA, 2048 bits", withModulus(2048), "signature is wrong"},
		{"RSA, 5000 bits", withModulus(5000), "too large"},
		{"RSA, as long as a CSR may be", withModulus(200_000), "too large"},
		{"RSA, longer", withModulus(400_000), "more than"},
		{"zeros", make([]byte, 1<<20), "more than"},
	} {
		request, problem := s.checkCSR(base64url.EncodeToString(test.der), []string{"a.example.com"})
		if request != nil || problem == nil || problem.Type != "badCSR" || !strings.Contains(problem.Detail, test.want) {
			t.Errorf("%s: %v, want badCSR with %q", test.name, problem, test.want)
		}
	}
}
