// Package acmeclient makes golang.org/x/crypto/acme safe to use for many hosts
// at the same time.
//
// An [acme.Client] holds its mutexes across requests, retries a 429 until the
// context ends, obeys any Retry-After it is told and reads error bodies without
// a limit. So each issuance attempt gets an acme.Client of its own, and what
// attempts have in common (the directory document, unused nonces, the user's
// HTTP client) lives in a [CA], behind the transport that all those clients use:
//
//	acme.Client ─ RoundTrip ─┬─ GET directory   from memory, or one request
//	                         ├─ HEAD newNonce   from the pool, or one request
//	                         └─ POST            one request, never sent twice
//	                               │
//	                               └─ exchange: own time-out, body limit, sane Retry-After
//
// No mutex of this package is held across a request or a callback. Everything
// ends with the context of the call that began it, with one exception: a
// RoundTripper of the user's that ignores its context keeps its goroutine until
// it returns, but nobody waits for it.
package acmeclient

import (
	"crypto"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/crypto/acme"
)

const (
	defaultRequestTimeout = 30 * time.Second
	defaultBodyLimit      = 1 << 20
)

// Config says how to reach one CA. Its zero value means Let's Encrypt through
// http.DefaultClient.
type Config struct {
	// DirectoryURL is the CA's directory; empty means acme.LetsEncryptURL.
	DirectoryURL string

	// HTTPClient carries the requests; nil means http.DefaultClient. It is
	// read and never written. Its Transport, Jar and Timeout are honoured;
	// its CheckRedirect is asked for GET and HEAD, while a redirected POST is
	// always an error: its signature covers the URL.
	HTTPClient *http.Client

	// UserAgent is prepended to the User-Agent header of x/crypto/acme.
	UserAgent string

	// RetryBackoff, if not nil, decides on retries after a 5xx and a badNonce
	// as documented for acme.Client.RetryBackoff, for at most 10 retries and
	// one minute each. It is not asked after a 429, which is never retried.
	RetryBackoff func(n int, r *http.Request, res *http.Response) time.Duration

	// RequestTimeout bounds each request from dialling to the end of its
	// answer's body. Zero or less means 30 seconds.
	RequestTimeout time.Duration

	// BodyLimit bounds each answer's body, in bytes after decompression. Zero
	// or less means 1 MiB.
	BodyLimit int64

	// Now is the local clock, to compare with that of the CA: see CA.Skew. Nil
	// means time.Now.
	Now func() time.Time
}

// CA is one ACME directory reached through the user's HTTP client: what attempts
// share. It is safe for concurrent use and needs no closing.
type CA struct {
	cfg       Config       // immutable, defaults filled in
	directory *directory   // the document, once fetched
	nonces    *noncePool   // of earlier answers, not yet used
	calls     calls        // of the user's HTTP client
	counts    counts       // of requests, by what became of them
	skew      skew         // of the CA's clock
	client    *http.Client // around this CA's transport, shared by all acme.Clients
}

// New returns a CA. It makes no request.
func New(cfg Config) *CA {
	if cfg.DirectoryURL == "" {
		cfg.DirectoryURL = acme.LetsEncryptURL
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	if cfg.BodyLimit <= 0 {
		cfg.BodyLimit = defaultBodyLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ca := &CA{cfg: cfg, directory: new(directory), nonces: new(noncePool)}
	ca.client = &http.Client{
		Transport: &transport{ca: ca, directoryURL: canonicalURL(cfg.DirectoryURL)},
		// Redirects were followed, or refused, below.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return ca
}

// Client returns a fresh acme.Client for one attempt; it shares no mutex with any
// other. kid is the account's URL; it may be empty only in order to register, as
// an acme.Client without it looks the account up and hides a failure to do so.
func (ca *CA) Client(key crypto.Signer, kid acme.KeyID) *acme.Client {
	return &acme.Client{
		Key:          key,
		KID:          kid,
		DirectoryURL: ca.cfg.DirectoryURL,
		HTTPClient:   ca.client,
		UserAgent:    ca.cfg.UserAgent,
		RetryBackoff: ca.retryBackoff,
	}
}

// Forget drops the directory document and the nonces, so that the next attempt
// asks the CA for both: for errors that suggest that the CA has moved or started
// anew. Requests that are under way go on.
func (ca *CA) Forget() {
	ca.directory.forget()
	ca.nonces.clear()
}

// canonicalURL returns raw as (*url.URL).String writes it, to compare requests
// with it. A URL that cannot be parsed never gets as far as a request.
func canonicalURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.String()
}
