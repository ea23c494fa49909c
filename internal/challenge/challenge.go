// Package challenge creates the responses to ACME challenges, tls-alpn-01 (RFC
// 8737) and http-01 (RFC 8555, section 8.3), holds those for pending
// challenges, and remembers which challenge type works for a host.
//
// It may know keys, certificates and the key authorizations of acme.Client, and
// writes to the Cache through Store. It does not know who may request an
// answer, nor how the request arrives: its callers serve the requests. It
// starts no goroutine.
package challenge

import "github.com/nostall/nostall/internal/hosts"

// The supported challenge types (RFC 8737, section 3; RFC 8555, section 8.3).
const (
	TLSALPN01 = "tls-alpn-01"
	HTTP01    = "http-01"
)

// Path is the path of http-01 requests, followed by the token (RFC 8555,
// section 8.3).
const Path = "/.well-known/acme-challenge/"

// TLSALPN01Key returns the key in the Cache for the tls-alpn-01 answer of a
// host. It is autocert's, which has none for an address.
func TLSALPN01Key(host string) string { return hosts.Key(host) + "+token" }

// HTTP01Key returns the key in the Cache for the http-01 answer to a token. It
// is autocert's.
func HTTP01Key(token string) string { return token + "+http-01" }

// MaxToken is the longest token, in bytes, so that the key of its answer fits
// into a file name. CAs use some 43 bytes (at least 128 bits, RFC 8555, section
// 8.3).
const MaxToken = 200

// MaxKeyAuthorization is the longest answer to http-01 that is sent, in bytes: a
// token, a dot and the thumbprint of the account's key (43 bytes), with room.
const MaxKeyAuthorization = 512

// IsToken reports whether s is a valid token: base64url (RFC 8555, section
// 8.3). That also makes it safe as a file name.
func IsToken(s string) bool {
	if s == "" || len(s) > MaxToken {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
