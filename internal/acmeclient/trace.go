package acmeclient

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Endpoint is a resource of the CA whose failures must be distinguished: those
// of the first three affect every host.
type Endpoint int

// The endpoints. EndpointNone, the zero value, means that nothing failed.
const (
	EndpointNone        Endpoint = iota
	EndpointDirectory            // the directory document
	EndpointNewNonce             // a fresh nonce
	EndpointNewAccount           // registration, and the lookup of an account by its key
	EndpointNewOrder             // a new order
	EndpointRevokeCert           // revocation
	EndpointKeyChange            // account key rollover
	EndpointRenewalInfo          // when to renew a certificate
	EndpointOther                // orders, authorizations, challenges, certificates, accounts
)

// String returns the endpoint's name in the directory.
func (e Endpoint) String() string {
	switch e {
	case EndpointNone:
		return "none"
	case EndpointDirectory:
		return "directory"
	case EndpointNewNonce:
		return "newNonce"
	case EndpointNewAccount:
		return "newAccount"
	case EndpointNewOrder:
		return "newOrder"
	case EndpointRevokeCert:
		return "revokeCert"
	case EndpointKeyChange:
		return "keyChange"
	case EndpointRenewalInfo:
		return "renewalInfo"
	}
	return "other"
}

// Trace records the network requests of the calls made under a context. The
// zero value is ready for use. It is safe for concurrent use. For concurrent
// calls, "last" means the last to end.
type Trace struct {
	mu         sync.Mutex // never held across I/O
	requests   int
	retryAfter time.Duration
	location   string
	failed     Endpoint
	failedURL  string
	unanswered bool

	certificate string // URL in the order that was seen last
}

type traceKey struct{}

// WithTrace returns a context whose calls are recorded in t, and no longer in
// an earlier Trace of ctx.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceOf returns the Trace of ctx, or a new one that is not read.
func TraceOf(ctx context.Context) *Trace {
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok && t != nil {
		return t
	}
	return new(Trace)
}

// Requests returns how many requests went to the network. Retries count;
// followed redirects and responses from memory do not.
func (t *Trace) Requests() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests
}

// RetryAfter returns the wait that the response to the last request asked for,
// from one second to 24 hours. It is 0 if there was none or no response yet.
func (t *Trace) RetryAfter() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.retryAfter
}

// Location returns the Location field of the response to the last request, or
// "": the URL of a new account or order, or of the account that a 409 is about.
func (t *Trace) Location() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.location
}

// Failed returns the endpoint of the last request if that got no usable
// response or a status of 300 or more. It returns EndpointNone if that
// succeeded, so a failure followed by a successful retry is not reported. Read
// it before making other calls under the same context, such as clean-ups.
func (t *Trace) Failed() Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// FailedURL returns the URL of the request that Failed reports, without its
// query, or "".
func (t *Trace) FailedURL() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failedURL
}

// Unanswered reports whether the CA may have acted on a signed request without
// saying so: there was no response, or an inconclusive one such as a 504. A
// later retry does not change that.
func (t *Trace) Unanswered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unanswered
}

// posted records the outcome of a signed request.
func (t *Trace) posted(res *http.Response, err error) {
	if err == nil && res.StatusCode < 500 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unanswered = true
}

func (t *Trace) sent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	t.retryAfter, t.location = 0, "" // they belong to an earlier response
}

// received records the header of a response, whose Retry-After is already sane.
func (t *Trace) received(e Endpoint, url string, res *http.Response) {
	wait, _ := RetryAfter(res.Header, time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retryAfter = wait
	t.location = res.Header.Get("Location")
	t.failed, t.failedURL = EndpointNone, ""
	if res.StatusCode >= 300 {
		t.failed, t.failedURL = e, url
	}
}

func (t *Trace) fail(e Endpoint, url string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed, t.failedURL = e, url
}

func (t *Trace) clearFailed() { t.fail(EndpointNone, "") }

func (t *Trace) setCertificate(url string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.certificate = url
}

// isCertificate reports whether an order that was seen names this URL.
func (t *Trace) isCertificate(url string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.certificate == url
}
