package conformance

import (
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"
)

// wellKnown is the path prefix of http-01 (RFC 8555, section 8.3).
const wellKnown = "/.well-known/acme-challenge/"

// keyAuthorization returns the key authorization of a token (RFC 8555, section
// 8.1).
func (c *Client) keyAuthorization(token string) string {
	c.t.Helper()
	thumbprint, err := acme.JWKThumbprint(c.Key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	return token + "." + thumbprint
}

// digest returns the content of the TXT record for a token (RFC 8555, section
// 8.4).
func (c *Client) digest(token string) string {
	c.t.Helper()
	sum := sha256.Sum256([]byte(c.keyAuthorization(token)))
	return B64(sum[:])
}

// serve makes a name answer every http-01 challenge of the account.
func (c *Client) serve(name string) {
	c.t.Helper()
	c.serveHTTP(name, func(w http.ResponseWriter, keyAuthorization string) { _, _ = io.WriteString(w, keyAuthorization) })
}

// serveHTTP makes a name answer http-01 challenges by a function that gets the
// right key authorization. Other paths are not found.
func (c *Client) serveHTTP(name string, answer func(w http.ResponseWriter, keyAuthorization string)) {
	c.t.Helper()
	suffix := c.keyAuthorization("")
	c.ca.Serve(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.URL.Path, wellKnown)
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(w, token+suffix)
	}), nil)
}

// validationCertificate returns the certificate for tls-alpn-01 (RFC 8737,
// section 3).
func (c *Client) validationCertificate(token, name string) *tls.Certificate {
	c.t.Helper()
	cert, err := (&acme.Client{Key: c.Key}).TLSALPN01ChallengeCert(token, name)
	if err != nil {
		c.t.Fatal(err)
	}
	return &cert
}

// serveTLS makes a name answer handshakes with one certificate, for the given
// ALPN protocols.
func (c *Client) serveTLS(name string, cert *tls.Certificate, protocols ...string) {
	c.ca.Serve(name, nil, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: protocols})
}

// outcome orders a certificate for a name, prepares a challenge and accepts it.
// It returns the answer that shows the final status of the challenge, or the
// challenge's error as if it were the answer.
func (c *Client) outcome(name, typ string, prepare func(token string)) Answer {
	c.t.Helper()
	o := c.order(name)
	challenge := c.challenge(o.authorization(), typ)
	prepare(text(challenge, "token"))
	a := c.accept(text(challenge, "url"))
	c.refresh(o)
	problem, failed := a.Object["error"].(map[string]any)
	c.expect(failed == (a.Text("status") == "invalid"), "RFC 8555, section 8: error and status do not fit: %v", a)
	if !failed {
		c.expect(o.Text("status") == "ready", "RFC 8555, section 7.1.6: the order is not ready: %v", o)
		return a
	}
	// RFC 8555, section 7.1.6.
	c.expect(o.Text("status") == "invalid", "the order of a failed validation is not invalid: %v", o)
	status, _ := problem["status"].(float64)
	return Answer{Status: int(status), Object: problem, Body: a.Body}
}
