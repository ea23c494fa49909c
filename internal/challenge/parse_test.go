package challenge_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

// Only the answer to a challenge for the host is served to the CA.
func TestParseTLSALPN01AcceptsAnswersOnly(t *testing.T) {
	const host = "a.example.com"
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	identifier := pkix.Extension{Id: []int{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: append([]byte{4, 32}, make([]byte, 32)...)}
	sign := func(names []string, exts ...pkix.Extension) []byte {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, ExtraExtensions: exts}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	entry := func(key crypto.Signer, chain ...[]byte) []byte {
		data, err := bundle.Encode(key, chain)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	other, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	uncritical := identifier
	uncritical.Critical = false
	answer := sign([]string{host}, identifier)
	store := &entries{data: make(map[string][]byte)}
	present(t, challenge.NewAnswers(store), challenge.TLSALPN01, "token", host)
	for name, tt := range map[string]struct {
		data []byte
		want string // in the error; empty if it is accepted
	}{
		"answer":                  {entry(key, answer), ""},
		"what Present stores":     {store.data[challenge.TLSALPN01Key(host)], ""},
		"certificate in service":  {entry(key, sign([]string{host})), "lacks the critical extension"},
		"extension not critical":  {entry(key, sign([]string{host}, uncritical)), "lacks the critical extension"},
		"for another host":        {entry(key, sign([]string{"b.example.com"}, identifier)), "another name"},
		"for several hosts":       {entry(key, sign([]string{host, "b.example.com"}, identifier)), "another name"},
		"for a wildcard":          {entry(key, sign([]string{"*.example.com"}, identifier)), "another name"},
		"of another key":          {entry(other, answer), "does not belong"},
		"several certificates":    {entry(key, answer, answer), "has 2 certificates"},
		"certificate of no shape": {entry(key, []byte("garbage")), "cannot be parsed"},
		"nothing":                 {nil, "no PEM block"},
	} {
		cert, err := challenge.ParseTLSALPN01(host, tt.data)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		if (cert != nil) != (err == nil) {
			t.Errorf("%s: certificate %v with error %v", name, cert, err)
		}
	}
}

// The answer for an address has the address as its only name, as an address
// (RFC 8738, section 6).
func TestParseTLSALPN01OfAddresses(t *testing.T) {
	for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
		store := &entries{data: make(map[string][]byte)}
		answers := challenge.NewAnswers(store)
		present(t, answers, challenge.TLSALPN01, "token", addr)
		leaf, err := x509.ParseCertificate(answers.Certificate(addr).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(leaf.DNSNames) != 0 || len(leaf.IPAddresses) != 1 || leaf.IPAddresses[0].String() != addr || leaf.Subject.CommonName != "" {
			t.Errorf("%s: the answer is for %q, %v, %q", addr, leaf.DNSNames, leaf.IPAddresses, leaf.Subject.CommonName)
		}
		if _, err := challenge.ParseTLSALPN01(addr, store.data[challenge.TLSALPN01Key(addr)]); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		for _, other := range []string{"192.0.2.2", "2001:db8::2", "a.example.com"} {
			if _, err := challenge.ParseTLSALPN01(other, store.data[challenge.TLSALPN01Key(addr)]); err == nil {
				t.Errorf("the answer for %s is accepted for %s", addr, other)
			}
		}
	}
}
