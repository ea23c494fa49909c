package acmeclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

const (
	retryStep         = 250 * time.Millisecond // the first wait after a failure; it doubles
	maxServerRetries  = 3                      // after 5xx, for one call
	maxGetRetries     = 2                      // the same, for GET requests
	maxLostRetries    = 2                      // after a lost or unusable response to a signed request
	maxMissingRetries = 5                      // while the CA does not know what it has just made
	maxObeyed         = 10 * time.Second       // a longer Retry-After ends the retries
	limitedWait       = 5 * time.Second        // the least wait after a 429 without Retry-After
	maxNonceRetries   = 10                     // after badNonce, for one call
	nonceRetryStep    = 10 * time.Millisecond
	maxNonceRetryWait = 100 * time.Millisecond
	maxUserRetries    = 10
	maxUserWait       = time.Minute
)

// fault is a kind of failure of an exchange.
type fault int

const (
	faultNone     fault = iota // success, or a failure that lasts
	faultLost                  // no response, or none that can be used: the CA may have acted
	faultLate                  // the same, and it took all the time
	faultServer                // 5xx
	faultLimited               // 429
	faultBadNonce              // the nonce was not accepted
	faultMissing               // the CA does not know what it has just made
	faults                     // how many there are
)

// tries counts the failures of one call by kind. The zero value is ready.
type tries [faults]int

// wait returns how long to wait before the request is sent again, or 0 if it
// must not be. backoff decides after the nth response that is an error. Retries
// are few and short: the manager backs off by host and by CA, over minutes, and
// knows more than a single call.
//
// What may not be sent again after a lost response:
//   - newOrder, more than once. If the CA has acted, there are two orders: CAs
//     such as Boulder return the first one while it is pending, others make a
//     second one, which expires unused. To give up here would lead to the same
//     second order, a minute later.
//   - finalize: PostCSR looks at the order first.
//   - keyChange: if the CA has acted, the key that signs is not the account's
//     any more. Package account finds out which key is.
//   - revocation is left to x/crypto/acme, since it may be signed by another key.
func (tr *tries) wait(p purpose, f fault, backoff func(n int) time.Duration) time.Duration {
	tr[f]++
	n := tr[f]
	switch f {
	case faultLost, faultLate:
		if n > maxLost(p, f) {
			return 0
		}
		return jitter(retryStep << (n - 1))
	case faultMissing:
		if n > maxMissingRetries {
			return 0
		}
		return jitter(retryStep << (n - 1))
	case faultServer, faultLimited, faultBadNonce:
		if p == forRevoke || p == forFinalize && f == faultServer {
			return 0
		}
		return backoff(n)
	}
	return 0
}

// maxLost returns how often a request may be sent again after a lost response.
// Directory and nonce get one retry: nothing has been done yet that would be
// lost, and if the network is down, callers should learn it soon.
func maxLost(p purpose, f fault) int {
	switch p {
	case forFinalize, forKeyChange, forRevoke:
		return 0
	case forDirectory, forNonce, forUnsigned, forOrder:
		return 1
	}
	if f == faultLate {
		return 1
	}
	return maxLostRetries
}

// retryBackoff decides on a retry after the nth response of a kind: 5xx, 429 or
// badNonce.
func (ca *CA) retryBackoff(n int, r *http.Request, res *http.Response) time.Duration {
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		return limitedBackoff(n, res)
	case res.StatusCode < 400:
		return 0 // not valid in ACME here; a retry would not help
	case ca.cfg.RetryBackoff != nil:
		if n > maxUserRetries {
			return 0
		}
		return min(ca.cfg.RetryBackoff(n, r, res), maxUserWait)
	case res.StatusCode < 500:
		return badNonceWait(n) // no other 4xx is retried
	}
	return serverErrorWait(n, r, res)
}

// limitedBackoff allows one retry, since each counts against the limit, and none
// for a name that is paused.
func limitedBackoff(n int, res *http.Response) time.Duration {
	if n > 1 || isPaused(res) {
		return 0
	}
	d, ok := RetryAfter(res.Header, time.Now())
	switch {
	case !ok:
		return limitedWait + rand.N(limitedWait)
	case d > maxObeyed:
		return 0
	}
	return d + rand.N(retryStep)
}

// badNonceWait is short, because the error response carries a fresh nonce. It
// is not zero: several machines behind one address may use up each other's
// nonces.
func badNonceWait(n int) time.Duration {
	if n > maxNonceRetries {
		return 0
	}
	step := min(time.Duration(n)*nonceRetryStep, maxNonceRetryWait)
	return step/2 + rand.N(step/2)
}

func serverErrorWait(n int, r *http.Request, res *http.Response) time.Duration {
	limit := maxServerRetries
	if r.Method == http.MethodGet {
		limit = maxGetRetries
	}
	if n > limit {
		return 0
	}
	if d, ok := RetryAfter(res.Header, time.Now()); ok {
		if d > maxObeyed {
			return 0
		}
		return d + rand.N(retryStep)
	}
	return jitter(retryStep << max(n-1, 0))
}

// jitter returns d plus up to half of it, so that callers do not return
// together.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/2) }

// faultOf returns the fault of the outcome of a request.
func faultOf(res *http.Response, err error) fault {
	if err != nil {
		failed, ok := errors.AsType[*RequestError](err)
		switch {
		case !ok || failed.lasts():
			return faultNone
		case failed.late():
			return faultLate
		}
		return faultLost
	}
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		return faultLimited
	case res.StatusCode >= http.StatusInternalServerError:
		return faultServer
	case isBadNonce(res):
		return faultBadNonce
	}
	return faultNone
}

// again sleeps before a repetition. It returns false if there is to be none, or
// if ctx ends first: the last failure says more than the end of the attempt.
func again(ctx context.Context, wait time.Duration) bool {
	return wait > 0 && ctx.Err() == nil && flight.Sleep(ctx, wait) == nil
}
