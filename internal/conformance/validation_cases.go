package conformance

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// validationCases are about the three challenge types. A refusal checks the
// error of the challenge.
var validationCases = []testCase{
	success("http-01: the key authorization is validated", "RFC 8555, section 8.3", 200,
		http01(func(w http.ResponseWriter, keyAuthorization string) { _, _ = io.WriteString(w, keyAuthorization) })),
	success("http-01: a line break at the end is ignored", "RFC 8555, section 8.3", 200,
		http01(func(w http.ResponseWriter, keyAuthorization string) {
			_, _ = io.WriteString(w, keyAuthorization+"\r\n")
		})),
	success("http-01: blanks at the end are ignored", "RFC 8555, section 8.3", 200,
		http01(func(w http.ResponseWriter, keyAuthorization string) {
			_, _ = io.WriteString(w, keyAuthorization+"  ")
		})).
		pebbleSays(403, "unauthorized", "RFC 8555, section 8.3: white space should be ignored, and blanks are such. acmetest "+
			"is right."),
	success("http-01: a redirect is followed", "RFC 8555, section 8.3", 200,
		func(c *Client) Answer {
			name := c.host("a")
			return c.outcome(name, "http-01", func(token string) {
				c.ca.Serve(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, wellKnown) {
						http.Redirect(w, r, "/elsewhere", http.StatusFound)
						return
					}
					_, _ = io.WriteString(w, c.keyAuthorization(token))
				}), nil)
			})
		}),
	refusal("http-01: another body is unauthorized", "RFC 8555, section 8.3", 403, "unauthorized",
		http01(func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, "wrong") })),
	refusal("http-01: white space before the key authorization is unauthorized", "RFC 8555, section 8.3", 403, "unauthorized",
		http01(func(w http.ResponseWriter, keyAuthorization string) { _, _ = io.WriteString(w, " "+keyAuthorization) })),
	refusal("http-01: the token alone is unauthorized", "RFC 8555, section 8.1", 403, "unauthorized",
		http01(func(w http.ResponseWriter, keyAuthorization string) {
			token, _, _ := strings.Cut(keyAuthorization, ".")
			_, _ = io.WriteString(w, token)
		})),
	refusal("http-01: another account's key authorization is unauthorized", "RFC 8555, section 8.1", 403, "unauthorized",
		func(c *Client) Answer {
			return c.outcome(c.host("a"), "http-01", func(string) { c.stranger().serve(c.host("a")) })
		}),
	refusal("http-01: an answer that is not 200 is unauthorized", "RFC 8555, section 8.3", 403, "unauthorized",
		http01(func(w http.ResponseWriter, keyAuthorization string) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, keyAuthorization)
		})),
	refusal("http-01: a connection that is closed without an answer is a connection error", "RFC 8555, section 6.7", 400,
		"connection", http01(func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) })),

	success("dns-01: the digest in a TXT record is validated", "RFC 8555, section 8.4", 200,
		dns01(func(c *Client, token string) []string { return []string{c.digest(token)} })),
	success("dns-01: one of several TXT records is enough", "RFC 8555, section 8.4", 200,
		dns01(func(c *Client, token string) []string { return []string{"one", c.digest(token), "other"} })),
	refusal("dns-01: the key authorization itself is unauthorized", "RFC 8555, section 8.4", 403, "unauthorized",
		dns01(func(c *Client, token string) []string { return []string{c.keyAuthorization(token)} })),
	refusal("dns-01: the digest for another account is unauthorized", "RFC 8555, section 8.4", 403, "unauthorized",
		dns01(func(c *Client, token string) []string { return []string{c.other().digest(token)} })),
	refusal("dns-01: no TXT record is a problem with DNS", "RFC 8555, section 6.7", 400, "dns",
		dns01(func(*Client, string) []string { return nil })).
		pebbleSays(403, "unauthorized", "RFC 8555, section 8.4: the validation fails, and the name for acmetest does not exist, "+
			"while for Pebble it exists without the record: both are right."),

	success("tls-alpn-01: the validation certificate is validated", "RFC 8737, section 3", 200,
		alpn(func(c *Client, token, name string) {
			c.serveTLS(name, c.validationCertificate(token, name), "acme-tls/1")
		})),
	refusal("tls-alpn-01: another name is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		alpn(func(c *Client, token, name string) {
			c.serveTLS(name, c.validationCertificate(token, c.host("b")), "acme-tls/1")
		})),
	refusal("tls-alpn-01: another token is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		alpn(func(c *Client, token, name string) {
			c.serveTLS(name, c.validationCertificate(strings.Repeat("A", len(token)), name), "acme-tls/1")
		})),
	refusal("tls-alpn-01: another account's certificate is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		alpn(func(c *Client, token, name string) {
			c.serveTLS(name, c.other().validationCertificate(token, name), "acme-tls/1")
		})),
	refusal("tls-alpn-01: a server without ALPN is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		alpn(func(c *Client, token, name string) { c.serveTLS(name, c.validationCertificate(token, name)) })),
	refusal("tls-alpn-01: a server that refuses the protocol is a TLS error", "RFC 8555, section 6.7", 400, "tls",
		alpn(func(c *Client, token, name string) { c.serveTLS(name, c.validationCertificate(token, name), "h2") })).
		pebbleSays(403, "unauthorized", "RFC 8555, section 6.7 has tls for this, so acmetest is right."),
	refusal("tls-alpn-01: a second name is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.DNSNames = append(cert.DNSNames, "b.example.com") })),
	refusal("tls-alpn-01: no name is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.DNSNames = nil })),
	refusal("tls-alpn-01: an IP address besides the name is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.IPAddresses = append(cert.IPAddresses, []byte{192, 0, 2, 1}) })).
		pebbleSays(200, "", "RFC 8737, section 3: the name must be the only one, so acmetest is right."),
	refusal("tls-alpn-01: an email address besides the name is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.EmailAddresses = []string{"a@example.com"} })).
		pebbleSays(200, "", "RFC 8737, section 3: the name must be the only one, so acmetest is right."),
	refusal("tls-alpn-01: no acmeIdentifier is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.ExtraExtensions = nil })),
	refusal("tls-alpn-01: an acmeIdentifier that is not critical is unauthorized", "RFC 8737, section 3", 403, "unauthorized",
		made(func(cert *x509.Certificate) { cert.ExtraExtensions[0].Critical = false })),
	refusal("tls-alpn-01: an acmeIdentifier that is no octet string is unauthorized", "RFC 8737, section 3", 403,
		"unauthorized", made(func(cert *x509.Certificate) { cert.ExtraExtensions[0].Value = []byte{5, 0} })),
	refusal("tls-alpn-01: a certificate that is not self-signed is unauthorized", "RFC 8737, section 3", 403,
		"unauthorized", made(func(cert *x509.Certificate) { cert.Issuer = pkix.Name{CommonName: "other"} })).
		pebbleSays(200, "", "RFC 8737, section 3: it must be self-signed, so acmetest is right."),
}

// http01 is about an answer to http-01.
func http01(answer func(w http.ResponseWriter, keyAuthorization string)) func(*Client) Answer {
	return func(c *Client) Answer {
		return c.outcome(c.host("a"), "http-01", func(string) { c.serveHTTP(c.host("a"), answer) })
	}
}

// dns01 is about TXT records.
func dns01(records func(c *Client, token string) []string) func(*Client) Answer {
	return func(c *Client) Answer {
		return c.outcome(c.host("a"), "dns-01", func(token string) {
			for _, value := range records(c, token) {
				c.ca.AddTXT("_acme-challenge."+c.host("a"), value)
			}
		})
	}
}

// alpn is about a TLS server.
func alpn(serve func(c *Client, token, name string)) func(*Client) Answer {
	return func(c *Client) Answer {
		return c.outcome(c.host("a"), "tls-alpn-01", func(token string) { serve(c, token, c.host("a")) })
	}
}

// made is about a validation certificate with one change. If its issuer is
// changed, it is signed by another key.
func made(change func(*x509.Certificate)) func(*Client) Answer {
	return alpn(func(c *Client, token, name string) {
		digest := sha256.Sum256([]byte(c.keyAuthorization(token)))
		value, err := asn1.Marshal(digest[:])
		if err != nil {
			c.t.Fatal(err)
		}
		subject := pkix.Name{CommonName: "validation"}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1),
			Subject:      subject,
			Issuer:       subject,
			NotBefore:    time.Now().Add(-time.Hour),
			NotAfter:     time.Now().Add(time.Hour),
			DNSNames:     []string{name},
			ExtraExtensions: []pkix.Extension{
				{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: value},
			},
		}
		change(template)
		key := newKey(c.t)
		c.serveTLS(name, c.certify(template, key), "acme-tls/1")
	})
}

// certify makes a certificate from a template, including its issuer.
func (c *Client) certify(template *x509.Certificate, key *ecdsa.PrivateKey) *tls.Certificate {
	c.t.Helper()
	parent, signer := template, key
	if template.Issuer.String() != template.Subject.String() {
		parent, signer = &x509.Certificate{Subject: template.Issuer}, newKey(c.t)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		c.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
