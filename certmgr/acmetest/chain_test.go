package acmetest_test

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// verify returns the leaf of a chain in DER, and the error of a browser with
// these roots.
func verify(t *testing.T, chain [][]byte, roots *x509.CertPool, host string) (*x509.Certificate, error) {
	t.Helper()
	if len(chain) != 2 {
		t.Fatalf("chain of %d certificates, want leaf and intermediate", len(chain))
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(intermediate)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: pool})
	return leaf, err
}

func TestEachAlternateChainLeadsToItsRoot(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.AlternateChains = 2
	s.StartMemory()
	defer s.Close()
	c := newRawClient(t, s)
	leaf := c.newLeaf("www.example.com")
	client := &acme.Client{Key: c.key, DirectoryURL: s.URL, HTTPClient: s.Client()}

	url := c.endpoint("/certificate/1")
	roots := []*x509.CertPool{s.Roots(), s.AlternateRoots(1), s.AlternateRoots(2)}
	urls := []string{url, url + "/1", url + "/2"}
	for i, u := range urls {
		chain, err := client.FetchCert(t.Context(), u, true)
		if err != nil {
			t.Fatal(err)
		}
		if string(chain[0]) != string(leaf.Raw) {
			t.Errorf("%s starts with another leaf", u)
		}
		for j, pool := range roots {
			if _, err := verify(t, chain, pool, "www.example.com"); (err == nil) != (i == j) {
				t.Errorf("chain %d under root %d: %v", i, j, err)
			}
		}
		links, err := client.ListCertAlternates(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		var others []string
		for j, other := range urls {
			if j != i {
				others = append(others, other)
			}
		}
		if strings.Join(links, " ") != strings.Join(others, " ") {
			t.Errorf("%s links to %v, want %v", u, links, others)
		}
	}
}

func TestAlternateChainsAreRefusedAsTheCertificate(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.AlternateChains = 1
	s.StartMemory()
	defer s.Close()
	c, stranger := newRawClient(t, s), newRawClient(t, s)
	c.newLeaf("www.example.com")
	stranger.register()
	for _, test := range []struct {
		client *rawClient
		path   string
		status int
	}{
		{c, "/certificate/1", 200},
		{c, "/certificate/1/1", 200},
		{c, "/certificate/1/0", 404},
		{c, "/certificate/1/2", 404},
		{c, "/certificate/1/01", 404},
		{c, "/certificate/1/1/1", 404},
		{c, "/certificate/1/", 404},
		{c, "/certificate/01/1", 404},
		{c, "/certificate/2/1", 404},
		{stranger, "/certificate/1/1", 403},
	} {
		if a := test.client.get(c.endpoint(test.path)); a.status != test.status {
			t.Errorf("%s: %d %s", test.path, a.status, a.body)
		}
	}
	if got := s.CountHost(acmetest.Certificate, "www.example.com"); got != 8 {
		t.Errorf("%d requests about the name\n%v", got, s)
	}
}

func TestNoAlternateChains(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.newLeaf("www.example.com")
	a := c.get(c.endpoint("/certificate/1"))
	if links := strings.Join(a.header.Values("Link"), ","); a.status != 200 || strings.Contains(links, "alternate") {
		t.Errorf("links %q", links)
	}
	if first, rest := pem.Decode(a.body); first == nil || !strings.HasPrefix(string(rest), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("not a chain in PEM: %s", a.body)
	}
	defer func() {
		if v := recover(); v == nil || !strings.Contains(v.(string), "AlternateChains") {
			t.Errorf("AlternateRoots(1): recovered %v", v)
		}
	}()
	s.AlternateRoots(1)
}

// TestLongLife: a test that spans many years of virtual time still gets
// certificates that verify.
func TestLongLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		time.Sleep(25 * 365 * day) // virtual
		c.newLeaf("www.example.com")
		client := &acme.Client{Key: c.key, DirectoryURL: s.URL, HTTPClient: s.Client()}
		chain, err := client.FetchCert(t.Context(), c.endpoint("/certificate/1"), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, chain, s.Roots(), "www.example.com"); err != nil {
			t.Errorf("after 25 years: %v", err)
		}
	})
}
