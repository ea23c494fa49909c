package acmetest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

// rawClient sends JWS that the test writes itself, right or wrong, and does not
// check replies, which may be faulty here. Package conformance tests how the CA
// handles wrong requests.
type rawClient struct {
	t      *testing.T
	server *acmetest.Server
	key    crypto.Signer
	kid    string // URL of the account; empty before it is made
}

func newRawClient(t *testing.T, s *acmetest.Server) *rawClient {
	t.Helper()
	return &rawClient{t: t, server: s, key: newECKey(t)}
}

func newECKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// post is a request; unset fields get correct values.
type post struct {
	url         string
	payload     string
	method      string
	contentType string
	header      map[string]any // members of the protected header; a nil value removes one
	body        []byte         // instead of a JWS
}

type answer struct {
	status int
	header http.Header
	body   []byte
	object map[string]any // nil if the body is no JSON object
}

func (a answer) problem() string {
	typ, _ := a.object["type"].(string)
	return strings.TrimPrefix(typ, "urn:ietf:params:acme:error:")
}

func (a answer) str(name string) string {
	s, _ := a.object[name].(string)
	return s
}

func (c *rawClient) endpoint(path string) string {
	return strings.TrimSuffix(c.server.URL, "/directory") + path
}

func (c *rawClient) nonce() string {
	c.t.Helper()
	return c.do(post{method: http.MethodHead, url: c.endpoint("/new-nonce")}).header.Get("Replay-Nonce")
}

func (c *rawClient) do(p post) answer {
	c.t.Helper()
	a, err := c.try(p)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// try is do for a request that may get no reply.
func (c *rawClient) try(p post) (answer, error) {
	c.t.Helper()
	method, body := http.MethodPost, p.body
	if p.method != "" {
		method = p.method
	} else if body == nil {
		body = c.sign(p)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, p.url, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if p.contentType == "" {
		p.contentType = "application/jose+json"
	}
	req.Header.Set("Content-Type", p.contentType)
	resp, err := c.server.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		return a, err
	}
	_ = json.Unmarshal(a.body, &a.object)
	return a, nil
}

func (c *rawClient) sign(p post) []byte {
	c.t.Helper()
	header := map[string]any{"alg": "ES256", "url": p.url}
	if c.kid != "" {
		header["kid"] = c.kid
	} else {
		header["jwk"] = conformance.JWK(c.t, c.key.Public())
	}
	for name, value := range p.header {
		if header[name] = value; value == nil {
			delete(header, name)
		}
	}
	if _, set := p.header["nonce"]; !set {
		header["nonce"] = c.nonce()
	}
	return conformance.MustJSON(c.t, conformance.Flattened(c.t, header, p.payload, c.key))
}

// register makes the account.
func (c *rawClient) register() {
	c.t.Helper()
	a := c.do(post{url: c.endpoint("/new-account"), payload: `{"termsOfServiceAgreed":true}`})
	if a.status != http.StatusCreated {
		c.t.Fatalf("newAccount: %d %s", a.status, a.body)
	}
	c.kid = a.header.Get("Location")
}

// newOrder requests an order with additional members. It creates the account if
// necessary.
func (c *rawClient) newOrder(more map[string]any, hosts ...string) answer {
	c.t.Helper()
	if c.kid == "" {
		c.register()
	}
	identifiers := []map[string]string{}
	for _, host := range hosts {
		typ := "dns"
		if net.ParseIP(host) != nil {
			typ = "ip"
		}
		identifiers = append(identifiers, map[string]string{"type": typ, "value": host})
	}
	object := map[string]any{"identifiers": identifiers}
	maps.Copy(object, more)
	return c.do(post{url: c.endpoint("/new-order"), payload: string(conformance.MustJSON(c.t, object))})
}

// order creates an order and returns its URL and object.
func (c *rawClient) order(hosts ...string) (string, answer) {
	c.t.Helper()
	a := c.newOrder(nil, hosts...)
	if a.status != http.StatusCreated {
		c.t.Fatalf("newOrder: %d %s", a.status, a.body)
	}
	return a.header.Get("Location"), a
}

func (c *rawClient) get(url string) answer {
	c.t.Helper()
	return c.do(post{url: url})
}

// authorizations returns the URLs of an order's authorizations.
func (a answer) authorizations() []string {
	var urls []string
	list, _ := a.object["authorizations"].([]any)
	for _, u := range list {
		urls = append(urls, u.(string))
	}
	return urls
}

// challenge returns the URL of an authorization's challenge of a type.
func (a answer) challenge(typ string) string {
	list, _ := a.object["challenges"].([]any)
	for _, c := range list {
		if object := c.(map[string]any); object["type"] == typ {
			return object["url"].(string)
		}
	}
	return ""
}

// validate accepts the http-01 challenges of an order and waits for the result;
// its names must resolve.
func (c *rawClient) validate(o answer) {
	c.t.Helper()
	for _, u := range o.authorizations() {
		if a := c.do(post{url: c.get(u).challenge("http-01"), payload: "{}"}); a.status != http.StatusOK {
			c.t.Fatalf("challenge: %d %s", a.status, a.body)
		}
		for c.get(u).str("status") == "pending" { // the server works meanwhile
		}
	}
}

// ready creates an order and makes it ready.
func (c *rawClient) ready(hosts ...string) (string, answer) {
	c.t.Helper()
	for _, host := range hosts {
		c.server.Resolve(host, acmetest.Target{HTTPHandler: keyAuthorizer(c.t, c.key)})
	}
	u, o := c.order(hosts...)
	c.validate(o)
	return u, o
}

func (c *rawClient) finalize(o answer, request string) answer {
	c.t.Helper()
	return c.do(post{url: o.str("finalize"), payload: `{"csr":"` + request + `"}`})
}

// issueWith issues a certificate for a key.
func (c *rawClient) issueWith(key crypto.Signer, hosts ...string) *x509.Certificate {
	c.t.Helper()
	_, o := c.ready(hosts...)
	if a := c.finalize(o, csr(c.t, key, x509.CertificateRequest{}, hosts...)); a.str("status") != "valid" {
		c.t.Fatalf("finalize: %d %s", a.status, a.body)
	}
	issued := c.server.Issued()
	return issued[len(issued)-1]
}

// newLeaf issues a certificate for names.
func (c *rawClient) newLeaf(hosts ...string) *x509.Certificate {
	c.t.Helper()
	return c.issueWith(newECKey(c.t), hosts...)
}

// keyAuthorizer answers every http-01 challenge of an account.
func keyAuthorizer(t *testing.T, key crypto.Signer) http.Handler {
	t.Helper()
	thumbprint, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.URL.Path, "/.well-known/acme-challenge/")
		_, _ = io.WriteString(w, token+"."+thumbprint+"\r\n")
	})
}

// csr returns a CSR for names, as ACME's base64url.
func csr(t *testing.T, key crypto.Signer, request x509.CertificateRequest, hosts ...string) string {
	t.Helper()
	request.DNSNames = append(request.DNSNames, hosts...)
	der, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		t.Fatal(err)
	}
	return conformance.B64(der)
}
