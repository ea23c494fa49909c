package acmetest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// refusals are requests that the CA must refuse, each with the status and type of the refusal. The client has an account.
var refusals = []struct {
	name   string
	do     func(c *rawClient) answer
	status int
	typ    string
}{
	// Form of the JWS, RFC 8555, section 6.2.
	{"content type JSON", func(c *rawClient) answer {
		return c.do(post{url: c.kid, contentType: "application/json"})
	}, 415, "malformed"},
	{"content type with parameter", func(c *rawClient) answer {
		return c.do(post{url: c.kid, contentType: "application/jose+json; charset=utf-8"})
	}, 415, "malformed"},
	{"no JSON", func(c *rawClient) answer { return c.do(post{url: c.kid, body: []byte("a.b.c")}) }, 400, "malformed"},
	{"JSON list", func(c *rawClient) answer { return c.do(post{url: c.kid, body: []byte("[]")}) }, 400, "malformed"},
	{"empty body", func(c *rawClient) answer { return c.do(post{url: c.kid, body: []byte{}}) }, 400, "malformed"},
	{"huge body", func(c *rawClient) answer {
		return c.do(post{url: c.kid, body: make([]byte, 2<<20)})
	}, 413, "malformed"},
	{"something after the JWS", func(c *rawClient) answer {
		return c.do(post{url: c.kid, body: append(c.sign(post{url: c.kid}), "{}"...)})
	}, 400, "malformed"},
	{"unprotected header", changeJWS(func(jws map[string]any) { jws["header"] = map[string]any{} }), 400, "malformed"},
	{"several signatures", changeJWS(func(jws map[string]any) { jws["signatures"] = []any{} }), 400, "malformed"},
	{"no payload", changeJWS(func(jws map[string]any) { delete(jws, "payload") }), 400, "malformed"},
	{"payload null", changeJWS(func(jws map[string]any) { jws["payload"] = nil }), 400, "malformed"},
	{"padded signature", changeJWS(func(jws map[string]any) { jws["signature"] = jws["signature"].(string) + "==" }), 400, "malformed"},
	{"padded header", changeJWS(func(jws map[string]any) { jws["protected"] = b64([]byte(`{"alg":"ES256"}`)) + "=" }), 400, "malformed"},

	// Keys and signatures.
	{"payload changed", changeJWS(func(jws map[string]any) { jws["payload"] = b64([]byte("{}")) }), 400, "malformed"},
	{"signature of another key", func(c *rawClient) answer {
		return c.do(post{url: c.kid, key: newECKey(c.t)})
	}, 400, "malformed"},
	{"signature in DER", func(c *rawClient) answer {
		return c.do(post{url: c.kid, jws: func(jws map[string]any) { jws["signature"] = b64(make([]byte, 70)) }})
	}, 400, "malformed"},
	{"empty signature", changeJWS(func(jws map[string]any) { jws["signature"] = "" }), 400, "malformed"},
	{"alg none", changeHeader("alg", "none"), 400, "badSignatureAlgorithm"},
	{"alg of a MAC", changeHeader("alg", "HS256"), 400, "badSignatureAlgorithm"},
	{"alg of another curve", changeHeader("alg", "ES384"), 400, "badSignatureAlgorithm"},
	{"alg RS256 with an EC key", changeHeader("alg", "RS256"), 400, "badSignatureAlgorithm"},
	{"no alg", changeHeader("alg", nil), 400, "malformed"},
	{"alg a number", changeHeader("alg", 1), 400, "malformed"},
	{"crit", changeHeader("crit", []string{"b64"}), 400, "malformed"},
	{"jwk and kid", func(c *rawClient) answer {
		return c.do(post{url: c.kid, header: map[string]any{"jwk": jwk(c.t, c.key.Public())}})
	}, 400, "malformed"},
	{"neither jwk nor kid", changeHeader("kid", nil), 400, "malformed"},
	{"jwk where kid is needed", func(c *rawClient) answer {
		return c.do(post{url: c.endpoint("/new-order"), header: map[string]any{"jwk": jwk(c.t, c.key.Public()), "kid": nil}})
	}, 400, "malformed"},
	{"kid where jwk is needed", func(c *rawClient) answer {
		return c.do(post{url: c.endpoint("/new-account"), payload: "{}"})
	}, 400, "malformed"},
	{"unknown kid", func(c *rawClient) answer {
		return c.do(post{url: c.kid, header: map[string]any{"kid": c.endpoint("/account/99")}})
	}, 400, "accountDoesNotExist"},
	{"kid is no URL", changeHeader("kid", "1"), 400, "accountDoesNotExist"},

	// Nonce and URL.
	{"no nonce", changeHeader("nonce", nil), 400, "badNonce"},
	{"unknown nonce", changeHeader("nonce", "AAAA"), 400, "badNonce"},
	{"nonce is not base64url", changeHeader("nonce", "a+b/"), 400, "malformed"},
	{"replayed request", func(c *rawClient) answer {
		body := c.sign(post{url: c.kid})
		if a := c.do(post{url: c.kid, body: body}); a.status != 200 {
			c.t.Fatalf("first time: %d %s", a.status, a.body)
		}
		return c.do(post{url: c.kid, body: body})
	}, 400, "badNonce"},
	{"no url", changeHeader("url", nil), 400, "malformed"},
	{"url of another resource", func(c *rawClient) answer {
		return c.do(post{url: c.kid, header: map[string]any{"url": c.endpoint("/new-order")}})
	}, 403, "unauthorized"},
	{"url with a query that was not asked for", func(c *rawClient) answer {
		return c.do(post{url: c.kid, header: map[string]any{"url": c.kid + "?a"}})
	}, 403, "unauthorized"},

	// Methods and paths.
	{"GET of an order", func(c *rawClient) answer {
		u, _ := c.order("a.example.com")
		return c.do(post{method: http.MethodGet, url: u})
	}, 405, "malformed"},
	{"GET of newOrder", func(c *rawClient) answer {
		return c.do(post{method: http.MethodGet, url: c.endpoint("/new-order")})
	}, 405, "malformed"},
	{"POST to the directory", func(c *rawClient) answer { return c.do(post{url: c.server.URL}) }, 405, "malformed"},
	{"unknown path", func(c *rawClient) answer { return c.do(post{url: c.endpoint("/nothing")}) }, 404, "malformed"},
	{"unknown order", func(c *rawClient) answer { return c.do(post{url: c.endpoint("/order/7")}) }, 404, "malformed"},
	{"order number with a zero", func(c *rawClient) answer {
		c.order("a.example.com")
		return c.do(post{url: c.endpoint("/order/01")})
	}, 404, "malformed"},
	{"POST-as-GET with a payload", func(c *rawClient) answer {
		u, _ := c.order("a.example.com")
		return c.do(post{url: u, payload: "{}"})
	}, 400, "malformed"},

	// Accounts.
	{"onlyReturnExisting without account", newAccount(`{"onlyReturnExisting":true}`), 400, "accountDoesNotExist"},
	{"contact is no mailto", newAccount(`{"contact":["tel:1"]}`), 400, "unsupportedContact"},
	{"contact with two addresses", newAccount(`{"contact":["mailto:a@example.com,b@example.com"]}`), 400, "invalidContact"},
	{"newAccount without payload", newAccount(""), 400, "malformed"},
	{"jwk off the curve", func(c *rawClient) answer {
		c.kid = ""
		bad := jwk(c.t, c.key.Public())
		bad["y"] = bad["x"]
		return c.do(post{url: c.endpoint("/new-account"), payload: "{}", header: map[string]any{"jwk": bad}})
	}, 400, "badPublicKey"},
	{"jwk with a private key", func(c *rawClient) answer {
		c.kid = ""
		bad := jwk(c.t, c.key.Public())
		bad["d"] = bad["x"]
		return c.do(post{url: c.endpoint("/new-account"), payload: "{}", header: map[string]any{"jwk": bad}})
	}, 400, "badPublicKey"},
	{"weak RSA key", func(c *rawClient) answer {
		weak, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			c.t.Fatal(err)
		}
		c.kid = ""
		return c.do(post{url: c.endpoint("/new-account"), payload: "{}", alg: "RS256", key: weak})
	}, 400, "badPublicKey"},
	{"foreign account's URL", func(c *rawClient) answer {
		other := newRawClient(c.t, c.server)
		other.register()
		return c.do(post{url: other.kid})
	}, 403, "unauthorized"},
	{"account to a made-up status", func(c *rawClient) answer {
		return c.do(post{url: c.kid, payload: `{"status":"valid!"}`})
	}, 400, "malformed"},
	{"deactivated account", func(c *rawClient) answer {
		c.do(post{url: c.kid, payload: `{"status":"deactivated"}`})
		return c.do(post{url: c.kid})
	}, 401, "unauthorized"},
	{"newAccount with a deactivated key", func(c *rawClient) answer {
		c.do(post{url: c.kid, payload: `{"status":"deactivated"}`})
		c.kid = ""
		return c.do(post{url: c.endpoint("/new-account"), payload: "{}"})
	}, 401, "unauthorized"},

	// Orders.
	{"order without identifiers", newOrder(`{"identifiers":[]}`), 400, "malformed"},
	{"order for an IP address as a name", newOrder(`{"identifiers":[{"type":"dns","value":"192.0.2.1"}]}`), 400, "malformed"},
	{"order for another type", newOrder(`{"identifiers":[{"type":"email","value":"a@example.com"}]}`), 400, "unsupportedIdentifier"},
	{"order for a wildcard in a wildcard", newOrder(`{"identifiers":[{"type":"dns","value":"*.*.example.com"}]}`), 400, "malformed"},
	{"order for one label", newOrder(`{"identifiers":[{"type":"dns","value":"localhost"}]}`), 400, "rejectedIdentifier"},
	{"order with a trailing dot", newOrder(`{"identifiers":[{"type":"dns","value":"example.com."}]}`), 400, "malformed"},
	{"order with an underscore", newOrder(`{"identifiers":[{"type":"dns","value":"a_b.example.com"}]}`), 400, "malformed"},
	{"order in UTF-8", newOrder(`{"identifiers":[{"type":"dns","value":"bücher.example.com"}]}`), 400, "malformed"},
	{"order with notAfter", newOrder(`{"identifiers":[{"type":"dns","value":"a.example.com"}],"notAfter":"2030-01-01T00:00:00Z"}`), 400, "malformed"},
	{"order that is no object", newOrder(`[]`), 400, "malformed"},
	{"foreign order", foreign(func(c *rawClient) string { u, _ := c.order("a.example.com"); return u }), 403, "unauthorized"},
	{"foreign authorization", foreign(func(c *rawClient) string {
		_, o := c.order("a.example.com")
		return o.authorizations()[0]
	}), 403, "unauthorized"},
	{"foreign challenge", foreign(func(c *rawClient) string {
		_, o := c.order("a.example.com")
		return c.get(o.authorizations()[0]).challenge("http-01")
	}), 403, "unauthorized"},
	{"authorization to a made-up status", func(c *rawClient) answer {
		_, o := c.order("a.example.com")
		return c.do(post{url: o.authorizations()[0], payload: `{"status":"valid"}`})
	}, 400, "malformed"},
	{"challenge with a list", func(c *rawClient) answer {
		_, o := c.order("a.example.com")
		return c.do(post{url: c.get(o.authorizations()[0]).challenge("http-01"), payload: "[]"})
	}, 400, "malformed"},
	{"challenge of a deactivated authorization", func(c *rawClient) answer {
		_, o := c.order("a.example.com")
		u := c.get(o.authorizations()[0]).challenge("http-01")
		c.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`})
		return c.do(post{url: u, payload: "{}"})
	}, 400, "malformed"},
	{"second challenge of a failed authorization", func(c *rawClient) answer {
		_, o := c.order("a.example.com") // does not resolve
		u := c.get(o.authorizations()[0]).challenge("tls-alpn-01")
		c.validate(o)
		return c.do(post{url: u, payload: "{}"})
	}, 400, "malformed"},

	// Finalizing.
	{"finalize a pending order", func(c *rawClient) answer {
		_, o := c.order("a.example.com")
		return c.finalize(o, csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com"))
	}, 403, "orderNotReady"},
	{"finalize twice", func(c *rawClient) answer {
		_, o := c.ready("a.example.com")
		request := csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com")
		if a := c.finalize(o, request); a.status != 200 {
			c.t.Fatalf("first time: %d %s", a.status, a.body)
		}
		return c.finalize(o, request)
	}, 403, "orderNotReady"},
	{"finalize an order whose authorization was deactivated", func(c *rawClient) answer {
		_, o := c.ready("a.example.com")
		c.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`})
		return c.finalize(o, csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com"))
	}, 403, "orderNotReady"},
	{"CSR in standard base64", badCSR(func(*rawClient) string { return "ab+/" }), 400, "malformed"},
	{"CSR that is none", badCSR(func(*rawClient) string { return b64([]byte("hello")) }), 400, "badCSR"},
	{"CSR for another name", badCSR(func(c *rawClient) string {
		return csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "b.example.com")
	}), 400, "badCSR"},
	{"CSR for one name more", badCSR(func(c *rawClient) string {
		return csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com", "b.example.com")
	}), 400, "badCSR"},
	{"CSR with a foreign common name", badCSR(func(c *rawClient) string {
		return csr(c.t, newECKey(c.t), x509.CertificateRequest{Subject: pkix.Name{CommonName: "b.example.com"}}, "a.example.com")
	}), 400, "badCSR"},
	{"CSR without names", badCSR(func(c *rawClient) string { return csr(c.t, newECKey(c.t), x509.CertificateRequest{}) }), 400, "badCSR"},
	{"CSR with an IP address", badCSR(func(c *rawClient) string {
		return csr(c.t, newECKey(c.t), x509.CertificateRequest{IPAddresses: []net.IP{{192, 0, 2, 1}}}, "a.example.com")
	}), 400, "badCSR"},
	{"CSR with the account's key", badCSR(func(c *rawClient) string {
		return csr(c.t, c.key, x509.CertificateRequest{}, "a.example.com")
	}), 400, "badCSR"},
	{"CSR with a key of P-521", badCSR(func(c *rawClient) string {
		key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			c.t.Fatal(err)
		}
		return csr(c.t, key, x509.CertificateRequest{}, "a.example.com")
	}), 400, "badCSR"},
	{"CSR with a wrong signature", badCSR(func(c *rawClient) string {
		good := csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com")
		return strings.Replace(good, good[60:64], "AAAA", 1)
	}), 400, "badCSR"},

	// Certificates.
	{"foreign certificate", foreign(func(c *rawClient) string {
		_, o := c.ready("a.example.com")
		return c.finalize(o, csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "a.example.com")).str("certificate")
	}), 403, "unauthorized"},
	{"revocation by a stranger", func(c *rawClient) answer {
		c.issue("a.example.com")
		other := newRawClient(c.t, c.server)
		other.register()
		return other.revoke()
	}, 403, "unauthorized"},
	{"revocation twice", func(c *rawClient) answer {
		c.issue("a.example.com")
		c.revoke()
		return c.revoke()
	}, 400, "alreadyRevoked"},
}

func changeJWS(change func(map[string]any)) func(*rawClient) answer {
	return func(c *rawClient) answer { return c.do(post{url: c.kid, jws: change}) }
}

func changeHeader(name string, value any) func(*rawClient) answer {
	return func(c *rawClient) answer { return c.do(post{url: c.kid, header: map[string]any{name: value}}) }
}

func newAccount(payload string) func(*rawClient) answer {
	return func(c *rawClient) answer {
		other := newRawClient(c.t, c.server)
		return other.do(post{url: c.endpoint("/new-account"), payload: payload})
	}
}

func newOrder(payload string) func(*rawClient) answer {
	return func(c *rawClient) answer { return c.do(post{url: c.endpoint("/new-order"), payload: payload}) }
}

// foreign asks for a resource of c as another account.
func foreign(resource func(c *rawClient) string) func(*rawClient) answer {
	return func(c *rawClient) answer {
		other := newRawClient(c.t, c.server)
		other.register()
		return other.get(resource(c))
	}
}

// badCSR finalizes with a bad CSR, and sees that the order stays ready.
func badCSR(request func(c *rawClient) string) func(*rawClient) answer {
	return func(c *rawClient) answer {
		u, o := c.ready("a.example.com")
		a := c.finalize(o, request(c))
		if status := c.get(u).str("status"); status != "ready" {
			c.t.Errorf("the order is %s after a bad CSR, want ready", status)
		}
		return a
	}
}

func (c *rawClient) finalize(o answer, request string) answer {
	c.t.Helper()
	return c.do(post{url: o.str("finalize"), payload: `{"csr":"` + request + `"}`})
}

func (c *rawClient) issue(host string) {
	c.t.Helper()
	_, o := c.ready(host)
	if a := c.finalize(o, csr(c.t, newECKey(c.t), x509.CertificateRequest{}, host)); a.str("status") != "valid" {
		c.t.Fatalf("finalize: %d %s", a.status, a.body)
	}
}

// revoke revokes the certificate that was issued last.
func (c *rawClient) revoke() answer {
	c.t.Helper()
	issued := c.server.Issued()
	return c.do(post{url: c.endpoint("/revoke-cert"), payload: `{"certificate":"` + b64(issued[len(issued)-1].Raw) + `"}`})
}

func TestRefusals(t *testing.T) {
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := acmetest.NewMemoryServer()
			defer s.Close()
			c := newRawClient(t, s)
			c.register()
			a := test.do(c)
			if a.status != test.status || a.problem() != test.typ {
				t.Fatalf("got %d %s, want %d %s\n%s\n%v", a.status, a.problem(), test.status, test.typ, a.body, s)
			}
			if got := a.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
			if a.status != http.StatusMethodNotAllowed && a.header.Get("Replay-Nonce") == "" {
				t.Error("the refusal carries no nonce")
			}
			if a.problem() == "badSignatureAlgorithm" && a.object["algorithms"] == nil {
				t.Error("the problem does not list the algorithms")
			}
			last := s.Requests()[0]
			for _, r := range s.Requests() {
				if r.Status == a.status {
					last = r
				}
			}
			if last.Problem != a.problem() || last.Detail == "" {
				t.Errorf("the log says %+v", last)
			}
		})
	}
}
