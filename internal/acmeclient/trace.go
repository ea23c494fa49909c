package acmeclient

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Endpoint is a resource of the CA, as far as failures of one must be told from
// failures of another: the first three fail for every host alike.
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

// String returns the name that the directory has for the endpoint.
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

// Trace records what the calls made under a context did on the network. The zero
// value is ready for use. It is safe for concurrent use; where calls run side by
// side, "last" is the one that ended last.
type Trace struct {
	mu         sync.Mutex // never held across I/O
	requests   int
	retryAfter time.Duration
	location   string
	failed     Endpoint
	failedURL  string
	unanswered bool
}

type traceKey struct{}

// WithTrace returns a context whose calls are recorded in t, and no longer in a
// Trace that ctx carried before.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceOf returns the Trace of ctx, or a fresh one that nobody looks at.
func TraceOf(ctx context.Context) *Trace {
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok && t != nil {
		return t
	}
	return new(Trace)
}

// Requests returns how many requests went to the network; answers from memory do
// not count, retries do, redirects that were followed do not.
func (t *Trace) Requests() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests
}

// RetryAfter returns the wait that the answer to the last request asked for, from one
// second to 24 hours, or 0 for none and while there is no answer.
func (t *Trace) RetryAfter() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.retryAfter
}

// Location returns the Location field of the answer to the last request, or "": the URL
// of an account or order that was just made, or of the account that a 409 is about.
func (t *Trace) Location() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.location
}

// Failed returns the endpoint of the last request if that got no usable answer or a
// status of 300 or more, or EndpointNone if it succeeded, so a failure that a retry
// made good is not reported. Read it before other calls are made under the same
// context, such as those that clean up.
func (t *Trace) Failed() Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// FailedURL returns the URL of what Failed returns, without its query, or "".
func (t *Trace) FailedURL() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failedURL
}

// Unanswered reports whether the CA may have acted upon a signed request without
// saying so: there was no answer, or none of the CA's that tells, such as a 504. A
// retry that succeeds, or is refused, does not change that.
func (t *Trace) Unanswered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unanswered
}

// posted notes what became of a signed request.
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
	t.retryAfter, t.location = 0, "" // those of an earlier answer say nothing about this request
}

// received records the header of an answer, whose Retry-After is sane already.
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
