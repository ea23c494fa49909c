package acmetest_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestNewNonce(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	for method, status := range map[string]int{http.MethodHead: 200, http.MethodGet: 204} {
		a := c.do(post{method: method, url: c.endpoint("/new-nonce")})
		if a.status != status || a.header.Get("Replay-Nonce") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", method, a.status, a.header)
		}
		if want := "<" + s.URL + `>;rel="index"`; a.header.Get("Link") != want {
			t.Errorf("%s: Link %q, want %q", method, a.header.Get("Link"), want)
		}
	}
}

func TestKnownKeyGetsItsAccount(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	want := c.kid
	c.kid = ""
	for _, payload := range []string{"{}", `{"onlyReturnExisting":true}`} {
		a := c.do(post{url: c.endpoint("/new-account"), payload: payload})
		if a.status != http.StatusOK || a.header.Get("Location") != want {
			t.Errorf("%s: %d, Location %q", payload, a.status, a.header.Get("Location"))
		}
	}
	if len(s.Accounts()) != 1 {
		t.Errorf("%d accounts", len(s.Accounts()))
	}
}

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

	refused := func(name, typ string, binding func(c *rawClient) any) {
		c := newRawClient(t, s)
		payload := map[string]any{}
		if b := binding(c); b != nil {
			payload["externalAccountBinding"] = b
		}
		a := c.do(post{url: c.endpoint("/new-account"), payload: string(mustJSON(t, payload))})
		if a.problem() != typ {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, typ)
		}
	}
	bind := func(key []byte, change map[string]any, bound func(c *rawClient) any) func(c *rawClient) any {
		return func(c *rawClient) any {
			header := map[string]any{"alg": "HS256", "kid": "kid-1", "url": c.endpoint("/new-account")}
			for name, value := range change {
				header[name] = value
			}
			protected, payload := b64(mustJSON(t, header)), b64(mustJSON(t, bound(c)))
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(protected + "." + payload))
			return map[string]any{"protected": protected, "payload": payload, "signature": b64(mac.Sum(nil))}
		}
	}
	own := func(c *rawClient) any { return jwk(t, c.key.Public()) }
	refused("no binding", "externalAccountRequired", func(*rawClient) any { return nil })
	refused("wrong key", "unauthorized", bind([]byte("wrong"), nil, own))
	refused("unknown kid", "unauthorized", bind(secret, map[string]any{"kid": "kid-2"}, own))
	refused("nonce", "malformed", bind(secret, map[string]any{"nonce": "AAAA"}, own))
	refused("other url", "malformed", bind(secret, map[string]any{"url": s.URL}, own))
	refused("no MAC", "malformed", bind(secret, map[string]any{"alg": "ES256"}, own))
	refused("other account key", "malformed", bind(secret, nil, func(*rawClient) any { return jwk(t, newECKey(t).Public()) }))
	refused("no JWK", "malformed", bind(secret, nil, func(*rawClient) any { return 1 }))
}

// TestStates follows one order through its states (RFC 8555, section 7.1.6).
func TestStates(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	u, o := c.order("B.example.com", "a.example.com", "b.example.com")
	if got := fmt.Sprint(o.object["identifiers"]); strings.Count(got, "example.com") != 2 {
		t.Errorf("identifiers %s, want two names in lower case", got)
	}
	if got := c.get(u).str("status"); got != "pending" {
		t.Errorf("a new order is %s", got)
	}
	for _, host := range []string{"a.example.com", "b.example.com"} {
		s.Resolve(host, acmetest.Target{HTTPHandler: keyAuthorizer(t, c.key)})
	}
	c.validate(o)
	if got := c.get(u).str("status"); got != "ready" {
		t.Errorf("a validated order is %s\n%v", got, s)
	}
	authz := c.get(o.authorizations()[0])
	if authz.challenge("http-01") == "" || authz.challenge("tls-alpn-01") != "" {
		t.Errorf("a valid authorization shows %s, want the challenge that was tried only", authz.body)
	}
	done := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "b.example.com", "a.example.com"))
	if done.str("status") != "valid" || done.str("certificate") == "" {
		t.Fatalf("a finalized order: %s", done.body)
	}
	if chain := c.get(done.str("certificate")); chain.header.Get("Content-Type") != "application/pem-certificate-chain" ||
		strings.Count(string(chain.body), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("certificate: %v %s", chain.header, chain.body)
	}
}

func TestOrdersAndAuthorizationsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		u, o := c.order("a.example.com")
		time.Sleep(8 * 24 * time.Hour)
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
