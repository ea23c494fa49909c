package acmetest_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestOddChains(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	s.DuplicateChain("a.example.com")
	s.CrossSignedChain("b.example.com")
	for host, want := range map[string][]string{
		"a.example.com": {"leaf", "leaf", "intermediate", "intermediate"},
		"b.example.com": {"leaf", "intermediate", "intermediate", "intermediate"},
		"c.example.com": {"leaf", "intermediate"},
	} {
		_, o := c.ready(host)
		u := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, host)).str("certificate")
		a := c.get(u)
		if got := blocks(t, a.body); a.status != http.StatusOK || !slices.Equal(got, want) {
			t.Errorf("%s: status %d, blocks %q, want %q", host, a.status, got, want)
		}
		var chain []*x509.Certificate
		pool := x509.NewCertPool()
		for block, rest := pem.Decode(a.body); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, c)
			pool.AddCert(c)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: s.Roots(), Intermediates: pool}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if host != "b.example.com" {
			continue
		}
		for i := 1; i < 4; i++ { // the last two certify each other
			parent := chain[map[int]int{1: 2, 2: 3, 3: 2}[i]]
			if err := chain[i].CheckSignatureFrom(parent); err != nil {
				t.Errorf("%v by %v: %v", chain[i].Subject, parent.Subject, err)
			}
		}
	}
}
