package acmeclient

import (
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	retryStep         = 250 * time.Millisecond // the first wait after a 5xx; it doubles
	maxServerRetries  = 3                      // after 5xx, for one call
	maxGetRetries     = 2                      // the same, for GET requests
	maxObeyed         = 10 * time.Second       // a longer Retry-After ends the retries
	maxNonceRetries   = 10                     // after badNonce, for one call
	nonceRetryStep    = 10 * time.Millisecond
	maxNonceRetryWait = 100 * time.Millisecond
	maxUserRetries    = 10
	maxUserWait       = time.Minute
)

// retryBackoff is the RetryBackoff of every acme.Client, and of the transport's
// own requests for nonces. It keeps retries few and short: the manager backs
// off by host and by CA, over minutes, and knows more than a single call.
//
// x/crypto/acme counts n over all responses to one call, so a 5xx after several
// badNonce errors may get fewer retries.
func (ca *CA) retryBackoff(n int, r *http.Request, res *http.Response) time.Duration {
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		return 0 // a retry would count against the limit
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
