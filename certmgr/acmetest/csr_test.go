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

// TestCSRsThatWouldTakeLong: the key is checked before it is used, so a CSR
// cannot keep the CA busy.
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

// TestCSRNamesOfOtherKinds uses names that crypto/x509 skips or changes.
func TestCSRNamesOfOtherKinds(t *testing.T) {
	s := NewUnstartedServer()
	defer s.Close()
	dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a.example.com")}
	other := func(tag int, b ...byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: b}
	}
	mapped := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}
	for _, test := range []struct {
		name string
		cn   string
		sans []asn1.RawValue
		host string // of the order
		want string
	}{
		{"a DNS name", "", []asn1.RawValue{dns}, "a.example.com", ""},
		{"an address", "192.0.2.1", []asn1.RawValue{other(7, 192, 0, 2, 1)}, "192.0.2.1", ""},
		{"a registered ID more", "", []asn1.RawValue{dns, other(8, 42, 3)}, "a.example.com", "neither"},
		{"a directory name more", "", []asn1.RawValue{dns, {Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0}}}, "a.example.com", "neither"},
		{"an IPv4 address as IPv6 maps it", "", []asn1.RawValue{other(7, mapped...)}, "192.0.2.1", "::ffff:192.0.2.1"},
		{"an address as common name only", "192.0.2.1", nil, "192.0.2.1", "common name"},
	} {
		request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: test.cn}}
		if test.sans != nil {
			value, err := asn1.Marshal(test.sans)
			if err != nil {
				t.Fatal(err)
			}
			request.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, request, newKey())
		if err != nil {
			t.Fatal(err)
		}
		want := test.want
		if _, err := x509.ParseCertificateRequest(der); err != nil {
			want = err.Error() // Go 1.27 refuses mapped addresses itself
		}
		_, problem := s.checkCSR(base64url.EncodeToString(der), []string{test.host})
		switch {
		case want == "" && problem != nil:
			t.Errorf("%s: %v", test.name, problem)
		case want != "" && (problem == nil || problem.Type != "badCSR" || !strings.Contains(problem.Detail, want)):
			t.Errorf("%s: %v, want badCSR with %q", test.name, problem, want)
		}
	}
}

// TestValidationCertificateForMappedAddress: only four bytes are an IPv4
// address.
func TestValidationCertificateForMappedAddress(t *testing.T) {
	for _, test := range []struct {
		address []byte
		good    bool
	}{
		{[]byte{192, 0, 2, 1}, true},
		{[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}, false},
	} {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: test.address}})
		if err != nil {
			t.Fatal(err)
		}
		key := newKey()
		template := &x509.Certificate{
			SerialNumber:    big.NewInt(1),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}},
		}
		leaf, err := x509.ParseCertificate(mustCreate(template, template, key.Public(), key))
		if err != nil {
			if test.good {
				t.Error(err)
			}
			continue // Go 1.27 refuses mapped addresses itself
		}
		if err := checkOnlyName(leaf, "192.0.2.1"); (err == nil) != test.good {
			t.Errorf("%x: %v", test.address, err)
		}
	}
}
