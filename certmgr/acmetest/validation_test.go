package acmetest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// outcome accepts a challenge for host and returns the error that the CA shows
// for it, if any.
func (c *rawClient) outcome(host, typ string, prepare func(token string)) (problem, detail string) {
	c.t.Helper()
	_, o := c.order(host)
	u := c.get(o.authorizations()[0]).challenge(typ)
	prepare(c.get(u).str("token"))
	c.do(post{url: u, payload: "{}"})
	for c.get(u).str("status") == "processing" {
		time.Sleep(time.Second) // in the bubble
	}
	a := c.get(u)
	object, _ := a.object["error"].(map[string]any)
	if (a.str("status") == "valid") != (object == nil) {
		c.t.Fatalf("challenge: %s", a.body)
	}
	problem, _ = object["type"].(string)
	detail, _ = object["detail"].(string)
	return strings.TrimPrefix(problem, "urn:ietf:params:acme:error:"), detail
}

// alpn describes a validation certificate; the zero value is correct.
type alpn struct {
	names       []string // nil: the host
	email       string
	notCritical bool
	noExtension bool
	value       func(digest []byte) []byte // of the extension
	foreignKey  bool                       // signed by another key
	issuer      string
}

func (a alpn) certificate(t *testing.T, host, keyAuthorization string) *tls.Certificate {
	t.Helper()
	key := newECKey(t)
	digest := sha256.Sum256([]byte(keyAuthorization))
	value, err := asn1.Marshal(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if a.value != nil {
		value = a.value(digest[:])
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "validation"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{host},
	}
	if a.names != nil {
		template.DNSNames = a.names
	}
	if a.email != "" {
		template.EmailAddresses = []string{a.email}
	}
	extension := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: !a.notCritical, Value: value}
	if !a.noExtension {
		template.ExtraExtensions = append(template.ExtraExtensions, extension)
	}
	parent, signer := template, crypto.Signer(key)
	if a.foreignKey {
		signer = newECKey(t)
	}
	if a.issuer != "" {
		parent = &x509.Certificate{Subject: pkix.Name{CommonName: a.issuer}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLSALPN01(t *testing.T) {
	const host = "a.example.com"
	octets := func(b []byte) []byte {
		der, err := asn1.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	tests := []struct {
		name    string
		cert    alpn
		problem string // type; empty: valid
		detail  string // part of it
	}{
		{name: "right"},
		{name: "upper case", cert: alpn{names: []string{"A.Example.com"}}},
		{"other name", alpn{names: []string{"b.example.com"}}, "unauthorized", "b.example.com"},
		{"two names", alpn{names: []string{host, "b.example.com"}}, "unauthorized", "not for exactly"},
		{"the name twice", alpn{names: []string{host, host}}, "unauthorized", "not for exactly"},
		{"name and email", alpn{email: "a@example.com"}, "unauthorized", "not for exactly"},
		{"no name", alpn{names: []string{}}, "unauthorized", "subjectAltName"},
		{"not critical", alpn{notCritical: true}, "unauthorized", "not critical"},
		{"no extension", alpn{noExtension: true}, "unauthorized", "acmeIdentifier"},
		{"other digest", alpn{value: func([]byte) []byte { return octets(make([]byte, 32)) }}, "unauthorized", "another token"},
		{"short digest", alpn{value: func(d []byte) []byte { return octets(d[:31]) }}, "unauthorized", "32 bytes"},
		{"bare digest", alpn{value: func(d []byte) []byte { return d }}, "unauthorized", "32 bytes"},
		{"trailing bytes", alpn{value: func(d []byte) []byte { return append(octets(d), 0) }}, "unauthorized", "32 bytes"},
		{"other signer", alpn{foreignKey: true}, "unauthorized", "self-signed"},
		{"other issuer", alpn{issuer: "somebody", foreignKey: true}, "unauthorized", "self-signed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
				c := newRawClient(t, s)
				c.register()
				thumbprint := s.Accounts()[0].Thumbprint
				problem, detail := c.outcome(host, "tls-alpn-01", func(token string) {
					s.Resolve(host, acmetest.Target{TLSConfig: &tls.Config{
						NextProtos:   []string{"acme-tls/1"},
						Certificates: []tls.Certificate{*test.cert.certificate(t, host, token+"."+thumbprint)},
					}})
				})
				if problem != test.problem || !strings.Contains(detail, test.detail) {
					t.Errorf("got %q: %q, want %q: %q", problem, detail, test.problem, test.detail)
				}
			})
		})
	}
}

// TestTargets uses hosts that do not answer as they should.
func TestTargets(t *testing.T) {
	cert := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return alpn{}.certificate(t, "a.example.com", ""), nil
	}
	handler := func(f func(w http.ResponseWriter, r *http.Request)) acmetest.Target {
		return acmetest.Target{HTTPHandler: http.HandlerFunc(f)}
	}
	tests := []struct {
		name      string
		challenge string
		target    acmetest.Target
		problem   string
		detail    string
	}{
		{"nothing listens for TLS", "tls-alpn-01", acmetest.Target{}, "connection", "refused"},
		{"nothing listens for HTTP", "http-01", acmetest.Target{}, "connection", "refused"},
		{"no ALPN", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{GetCertificate: cert}}, "unauthorized", `protocol ""`},
		{"other ALPN", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{NextProtos: []string{"h2"}, GetCertificate: cert}},
			"tls", "no application protocol"},
		{"no certificate", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{NextProtos: []string{"acme-tls/1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}}, "tls", "internal error"},
		{"TLS 1.1", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10,
			NextProtos: []string{"acme-tls/1"}, GetCertificate: cert}}, "tls", "version"},
		{"certificate of another account", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{NextProtos: []string{"acme-tls/1"},
			GetCertificate: cert}}, "unauthorized", "another token"},
		{"TLS never answers", "tls-alpn-01", acmetest.Target{TLSConfig: &tls.Config{NextProtos: []string{"acme-tls/1"},
			GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { <-h.Context().Done(); return nil, nil }}},
			"connection", "firewall"},
		{"404", "http-01", handler(http.NotFound), "unauthorized", "404"},
		{"other answer", "http-01", handler(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }), "unauthorized", `"hello"`},
		{"long answer", "http-01", handler(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 200)) }),
			"unauthorized", "longer"},
		{"HTTP never answers", "http-01", handler(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "connection", "firewall"},
		{"HTTP is cut", "http-01", handler(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "connection", "closed"},
		{"redirect loop", "http-01", handler(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://a.example.com"+r.URL.Path, http.StatusFound)
		}), "connection", "redirects"},
		{"redirect to another port", "http-01", handler(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://a.example.com:8080/", http.StatusFound)
		}), "connection", "port"},
		{"redirect to an address", "http-01", handler(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}), "connection", "IP address"},
		{"redirect to nowhere", "http-01", handler(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://nowhere.test/", http.StatusFound)
		}), "dns", "nowhere.test"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
				s.Resolve("a.example.com", test.target)
				c := newRawClient(t, s)
				c.register()
				problem, detail := c.outcome("a.example.com", test.challenge, func(string) {})
				if problem != test.problem || !strings.Contains(detail, test.detail) || !strings.Contains(detail, "a.example.com") {
					t.Errorf("got %q: %q, want %q: %q and the name", problem, detail, test.problem, test.detail)
				}
			})
		})
	}
}

func TestHTTP01Redirects(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		c := newRawClient(t, s)
		c.register()
		answer := keyAuthorizer(t, c.key)
		s.Resolve("b.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil || r.Host != "b.example.com" {
				t.Errorf("request for %s, TLS %v", r.Host, r.TLS)
			}
			answer.ServeHTTP(w, r)
		})})
		s.Resolve("a.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.Host != "a.example.com" {
				t.Errorf("%s for %s", r.Method, r.Host)
			}
			http.Redirect(w, r, "https://b.example.com"+r.URL.Path, http.StatusMovedPermanently)
		})})
		if problem, detail := c.outcome("a.example.com", "http-01", func(string) {}); problem != "" {
			t.Errorf("%s: %s", problem, detail)
		}
	})
}

func TestResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		says := func(text string) acmetest.Target {
			return acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })}
		}
		lookup := func(host string) string {
			_, detail := c.outcome(host, "http-01", func(string) {})
			return detail
		}
		expect := func(host, want string) {
			t.Helper()
			if got := lookup(host); !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", host, got, want)
			}
		}
		s.Resolve("A.example.com", says("exact"))
		s.Resolve("*.example.com", says("wildcard"))
		expect("a.example.com", `"exact"`)
		expect("b.example.com", `"wildcard"`)
		expect("c.b.example.com", "NXDOMAIN")
		expect("example.com", "NXDOMAIN")
		s.Resolve("*", says("all"))
		expect("c.b.example.com", `"all"`)
		s.Resolve("*.example.com", says("replaced"))
		expect("b.example.com", `"replaced"`)
		s.Unresolve("*.example.com")
		expect("b.example.com", `"all"`)
	})
}

// TestErrorsOfXCrypto checks that x/crypto's client reads the error of a failed
// validation.
func TestErrorsOfXCrypto(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		client := newACMEClient(t, s)
		_, _, err := obtain(t.Context(), t, client, r, "http-01", "moved.example.org")
		var failed *acme.AuthorizationError
		if !errors.As(err, &failed) || failed.Identifier != "moved.example.org" || !strings.Contains(err.Error(), "NXDOMAIN") {
			t.Errorf("error %v", err)
		}
		if dump := s.String(); !strings.Contains(dump, "validation of moved.example.org failed: dns") {
			t.Errorf("the dump does not say why: %s", dump)
		}
	})
}
