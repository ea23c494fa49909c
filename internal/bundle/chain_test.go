package bundle

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// pki makes certificates and remembers them by name.
type pki struct {
	t    *testing.T
	keys map[string]crypto.Signer
	der  map[string][]byte
}

// certify has the key of a CA certify that of another, or of a host's. The
// certificate's name is "subject by issuer".
func (p *pki) certify(subject, issuer string) []byte {
	p.t.Helper()
	name := subject + " by " + issuer
	if der, ok := p.der[name]; ok {
		return der
	}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(int64(len(p.der) + 1)),
		Subject:               pkix.Name{CommonName: subject},
		IsCA:                  !strings.Contains(subject, "."),
		BasicConstraintsValid: true,
	}
	if !tmpl.IsCA {
		tmpl.DNSNames = []string{subject}
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, p.key(subject).Public(), p.key(issuer))
	if err != nil {
		p.t.Fatal(err)
	}
	p.der[name] = der
	return der
}

func (p *pki) key(name string) crypto.Signer {
	p.t.Helper()
	if p.keys[name] == nil {
		key, err := GenerateKey(P256)
		if err != nil {
			p.t.Fatal(err)
		}
		p.keys[name] = key
	}
	return p.keys[name]
}

// chain returns the certificates of a list such as "a.example by A, A by B".
func (p *pki) chain(list string) [][]byte {
	p.t.Helper()
	var chain [][]byte
	for name := range strings.SplitSeq(list, ", ") {
		if subject, issuer, ok := strings.Cut(name, " by "); ok {
			chain = append(chain, p.certify(subject, issuer))
		} else {
			chain = append(chain, []byte(name))
		}
	}
	return chain
}

func TestChainIsArranged(t *testing.T) {
	p := &pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}
	const leaf = "a.example by A"
	for _, test := range []struct{ name, sent, want string }{
		{"sound", leaf + ", A by B, B by B", ""},
		{"leaf alone", leaf, ""},
		{"leaf twice", leaf + ", " + leaf + ", A by B", leaf + ", A by B"},
		{"intermediate twice", leaf + ", A by B, A by B", leaf + ", A by B"},
		{"leaf twice and alone", leaf + ", " + leaf, leaf},
		{"leaf last", "A by B, " + leaf, leaf + ", A by B"},
		{"reversed", "B by C, A by B, " + leaf, leaf + ", A by B, B by C"},
		{"roots that certify each other", leaf + ", A by B, B by C, C by B", ""},
		{"the other way round", leaf + ", C by B, B by C, A by B", leaf + ", A by B, B by C, C by B"},
		{"two ways", leaf + ", A by B, A by C", ""},
		{"two ways and further", leaf + ", A by B, A by C, C by D, B by D", leaf + ", A by B, B by D, A by C, C by D"},
		{"stray", leaf + ", X by Y, A by B, b.example by A", leaf + ", A by B"},
		{"something else", leaf + ", garbage, A by B", leaf + ", A by B"},
		{"another's leaf first", "b.example by A, " + leaf + ", A by B", leaf + ", A by B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want == "" {
				want = test.sent
			}
			got, err := Arrange(p.key("a.example"), p.chain(test.sent))
			if err != nil || !slices.EqualFunc(got, p.chain(want), bytes.Equal) {
				t.Errorf("%d certificates, want %s; %v", len(got), want, err)
			}
		})
	}
}

func TestChainThatDoesNotFitTogetherIsRefused(t *testing.T) {
	p := &pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}
	const leaf = "a.example by A"
	for _, test := range []struct{ name, sent, want string }{
		{"other CA", leaf + ", X by Y", "chain is broken"},
		{"garbage for the issuer", leaf + ", garbage", "chain is broken"},
		{"garbage for the leaf", "garbage, A by B", "cannot be parsed"},
		{"too many", leaf + strings.Repeat(", A by B", MaxChain), "17 certificates"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Arrange(p.key("a.example"), p.chain(test.sent)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if _, err := Arrange(p.key("a.example"), nil); err == nil {
		t.Error("no error for no certificate")
	}
}

// The signer decides, unless Go does not check the algorithm.
func TestSignatureWithSHA1CountsByTheNames(t *testing.T) {
	p := &pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}
	child, err := x509.ParseCertificate(p.certify("A", "B"))
	if err != nil {
		t.Fatal(err)
	}
	child.SignatureAlgorithm = x509.ECDSAWithSHA1
	for name, want := range map[string]bool{"B": true, "C": false} {
		parent, err := x509.ParseCertificate(p.certify(name, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := certifies(parent, child); got != want {
			t.Errorf("%s certifies A: %v", name, got)
		}
	}
}
