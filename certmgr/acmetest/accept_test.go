package acmetest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestRSAAccount(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := &acme.Client{Key: key, DirectoryURL: s.URL, HTTPClient: s.Client()}
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	want, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Accounts()[0].Thumbprint; got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
}

func TestTerms(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.Terms = "https://ca.example/terms"
	s.StartMemory()
	defer s.Close()
	client := &acme.Client{Key: newECKey(t), DirectoryURL: s.URL, HTTPClient: s.Client()}
	c := newRawClient(t, s)
	if a := c.do(post{url: c.endpoint("/new-account"), payload: "{}"}); a.problem() != "malformed" {
		t.Errorf("without agreement: %d %s", a.status, a.body)
	}
	var asked string
	_, err := client.Register(t.Context(), &acme.Account{}, func(url string) bool { asked = url; return true })
	if err != nil || asked != s.Terms {
		t.Errorf("asked for %q, error %v", asked, err)
	}
}

func TestExternalAccountBinding(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	s := acmetest.NewUnstartedServer()
	s.EAB = map[string][]byte{"kid-1": secret}
	s.StartMemory()
	defer s.Close()

	client := &acme.Client{Key: newECKey(t), DirectoryURL: s.URL, HTTPClient: s.Client()}
	account := &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: secret}}
	if _, err := client.Register(t.Context(), account, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
}

func TestOrdersAndAuthorizationsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		u, o := c.order("a.example.com")
		time.Sleep(8 * day)
		if got := c.get(u).str("status"); got != "invalid" {
			t.Errorf("an old order is %s", got)
		}
		if got := c.get(o.authorizations()[0]).str("status"); got != "expired" {
			t.Errorf("an old authorization is %s", got)
		}
	})
}

func TestDeactivation(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	u, o := c.order("a.example.com")
	if a := c.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`}); a.str("status") != "deactivated" {
		t.Errorf("authorization: %s", a.body)
	}
	if got := s.Authorizations("a.example.com"); len(got) != 1 || got[0] != "deactivated" {
		t.Errorf("authorizations %v", got)
	}
	if got := c.get(u).str("status"); got != "invalid" {
		t.Errorf("the order is %s", got)
	}
	if a := c.do(post{url: c.kid, payload: `{"status":"deactivated"}`}); a.str("status") != "deactivated" {
		t.Errorf("account: %s", a.body)
	}
}

func TestProcessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.Processing = time.Minute
		s.StartMemory()
		defer s.Close()
		s.RetryAfter(acmetest.Order, "7")
		c := newRawClient(t, s)
		c.register()
		u, o := c.ready("a.example.com")
		if a := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com")); a.str("status") != "processing" ||
			a.header.Get("Retry-After") != "" {
			t.Fatalf("finalize: %v %s", a.header, a.body)
		}
		time.Sleep(59 * time.Second)
		if a := c.get(u); a.str("status") != "processing" || a.header.Get("Retry-After") != "7" {
			t.Errorf("before a minute: %v %s", a.header, a.body)
		}
		time.Sleep(2 * time.Second)
		if a := c.get(u); a.str("status") != "valid" || a.header.Get("Retry-After") != "" {
			t.Errorf("after a minute: %v %s", a.header, a.body)
		}
	})
}
