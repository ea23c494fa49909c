// Package challenge makes the answers to ACME challenges, tls-alpn-01 (RFC 8737) and
// http-01 (RFC 8555, section 8.3), keeps those that are live in this process, and
// remembers which challenge type works for a host.
//
// It may know keys, certificates and the key authorizations of acme.Client, and it
// writes to the Cache by Store. It does not know who may ask for an answer, nor how
// the request arrives: its callers serve the requests. It starts no goroutine.
package challenge

// The challenge types that can be answered (RFC 8737, section 3; RFC 8555, section
// 8.3).
const (
	TLSALPN01 = "tls-alpn-01"
	HTTP01    = "http-01"
)

// Path is where http-01 answers are, followed by the token (RFC 8555, section 8.3).
const Path = "/.well-known/acme-challenge/"

// TLSALPN01Key returns the Cache's key for the tls-alpn-01 answer of a host, which
// is autocert's.
func TLSALPN01Key(host string) string { return host + "+token" }

// HTTP01Key returns the Cache's key for the http-01 answer to a token, which is
// autocert's.
func HTTP01Key(token string) string { return token + "+http-01" }

// MaxToken bounds a token, so that the key of its answer fits into the name of a
// file. CAs use some 43 bytes (128 bits at least, RFC 8555, section 8.3).
const MaxToken = 200

// IsToken reports whether s is what RFC 8555 allows as a token: base64url. That
// also keeps it from leaving its place in a cache of files.
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
