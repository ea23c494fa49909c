// Package acmeclient makes golang.org/x/crypto/acme safe for many hosts at the
// same time.
//
// An [acme.Client] holds its mutexes across requests, retries a 429 until the
// context ends, obeys any Retry-After and reads error bodies without a limit.
// So each issuance attempt gets its own acme.Client, and what attempts share
// (the directory, unused nonces, the user's HTTP client) lives in a [CA],
// behind the transport that all those clients use:
//
//	acme.Client ─ RoundTrip ─┬─ GET directory   from memory, or one request
//	                         ├─ HEAD newNonce   from the pool, or one request
//	                         └─ POST            one request, signed again for each retry
//	                               │
//	                               └─ exchange: own time-out, body limit, sane Retry-After
//
// No mutex of this package is held across a request or a callback. All work
// ends with the context of the call that began it, with one exception: if the
// user's RoundTripper ignores its context, its goroutine runs until it returns,
// but no caller waits for it.
package acmeclient

import (
	"crypto"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/flight"
)

const defaultBodyLimit = 256 << 10

// Config says how to reach one CA. Its zero value means Let's Encrypt through
// http.DefaultClient.
type Config struct {
	// DirectoryURL is the CA's directory; empty means acme.LetsEncryptURL.
	DirectoryURL string

	// HTTPClient sends the requests; nil means http.DefaultClient, with a copy of
	// its transport that keeps more idle connections. It is never modified. Its Transport, Jar and Timeout are honoured. Its CheckRedirect
	// is called for GET and HEAD. A redirected POST is always an error, because
	// its signature covers the URL.
	HTTPClient *http.Client

	// OnDeath, if not nil, is called if HTTPClient panics or ends its
	// goroutine. It must not block.
	OnDeath func(*flight.Death)

	// PlainHTTP allows URLs of plain http to other machines if DirectoryURL is
	// one. Without it, http is only for loopback addresses and localhost.
	PlainHTTP bool

	// OnOrigin, if not nil, is called once for each origin other than that of
	// DirectoryURL, such as "https://other.example", before the first request to
	// it; for 8 at most. It must not block.
	OnOrigin func(origin string)

	// UserAgent is prepended to the User-Agent header of x/crypto/acme.
	UserAgent string

	// RetryBackoff, if not nil, decides on retries after a 5xx or a badNonce,
	// as documented for acme.Client.RetryBackoff, up to 10 retries and one
	// minute each. It is not called after a 429, which is retried once, nor
	// after the 5xx of finalize: see PostCSR.
	RetryBackoff func(n int, r *http.Request, res *http.Response) time.Duration

	// BodyLimit limits each response body, in bytes after decompression. Zero
	// or less means 256 KiB: documents of a CA have some KB, and a problem about
	// 100 names some 30 KB.
	BodyLimit int64

	// Now is the local wall clock, compared with the CA's: see CA.Skew. Nil
	// means time.Now.
	Now func() time.Time
}

// CA is one ACME directory reached through the user's HTTP client: the state
// that attempts share. It is safe for concurrent use. Close it at the end.
type CA struct {
	cfg       Config     // immutable, defaults filled in
	directory *directory // the document, once fetched
	nonces    *noncePool // from earlier responses, not yet used
	calls     calls      // running calls of the user's HTTP client
	counts    counts     // requests by outcome
	skew      skew       // difference of the clocks
	origins   origins    // that requests went to
	recent    recentAccount
	defaults  defaultTransport // used without a user's client
}

// New returns a CA. It makes no request.
func New(cfg Config) *CA {
	if cfg.DirectoryURL == "" {
		cfg.DirectoryURL = acme.LetsEncryptURL
	}
	if cfg.BodyLimit <= 0 {
		cfg.BodyLimit = defaultBodyLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ca := &CA{cfg: cfg, directory: new(directory), nonces: new(noncePool)}
	ca.origins.notify = cfg.OnOrigin
	if u, err := url.Parse(cfg.DirectoryURL); err == nil {
		ca.origins.own = originOf(u)
	}
	return ca
}

// httpClient returns an HTTP client over a transport of ca. key returns the key
// that repeated requests are signed with, or nil.
func httpClient(ca *CA, key func() crypto.Signer) *http.Client {
	return &http.Client{
		Transport: &transport{ca: ca, directoryURL: canonicalURL(ca.cfg.DirectoryURL), key: key},
		// The transport has followed or refused redirects.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Client returns a new acme.Client for one attempt; it shares no mutex with any
// other. kid is the account's URL. Leave it empty only to register: without it,
// an acme.Client looks the account up and hides a failure to do so.
func (ca *CA) Client(key crypto.Signer, kid acme.KeyID) *acme.Client {
	c := &acme.Client{
		Key:          key,
		KID:          kid,
		DirectoryURL: ca.cfg.DirectoryURL,
		UserAgent:    ca.cfg.UserAgent,
	}
	c.HTTPClient = httpClient(ca, func() crypto.Signer { return c.Key })
	c.RetryBackoff = func(n int, r *http.Request, res *http.Response) time.Duration {
		if ca.isRevocation(r) {
			return ca.retryBackoff(n, r, res)
		}
		return 0 // the transport has done what can be done
	}
	return c
}

// isRevocation reports whether r may be signed with the key of a certificate,
// with which the transport cannot sign again.
func (ca *CA) isRevocation(r *http.Request) bool {
	doc := ca.directory.current()
	return doc != nil && r.URL.String() == doc.Revoke
}

// Forget drops the directory document and the nonces, so that the next attempt
// fetches both again. Call it for errors which suggest that the CA has moved or
// was reset. Requests in flight continue.
func (ca *CA) Forget() {
	ca.directory.forget()
	ca.nonces.clear()
}

// canonicalURL returns raw in the form of (*url.URL).String, for comparison
// with requests. An invalid URL never gets as far as a request.
func canonicalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.String()
}
