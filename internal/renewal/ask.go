package renewal

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
)

// AskEvery is how often the CA is asked when to renew (RFC 9773, section 4.3) if
// it does not say by Retry-After: often enough to learn of a revocation before it
// happens.
const AskEvery = 6 * time.Hour

const (
	// Bounds on the CA's own Retry-After.
	askSoonest = time.Minute
	askLatest  = 24 * time.Hour

	// askRetry is the wait after a failure that may be over soon; it doubles up
	// to AskEvery, which is the wait after any other one (section 4.3.3).
	askRetry = 5 * time.Minute
)

// FirstAsk returns the wait before the first question about a certificate, so
// that those which a start brings into memory do not all ask at once.
func FirstAsk() time.Duration { return time.Minute + rand.N(9*time.Minute) }

// nextAsk returns the wait after an answer.
func nextAsk(info acmeclient.RenewalInfo) time.Duration {
	d := info.RetryAfter
	if d == 0 {
		d = AskEvery
	}
	d = min(max(d, askSoonest), askLatest)
	return d + rand.N(d/20) // never sooner than the CA wants
}

// askAfterFailure returns the wait after the given number of failures in a row.
// retryAfter is what the CA asked for, or zero.
func askAfterFailure(err error, failed int, retryAfter time.Duration) time.Duration {
	d := AskEvery
	switch {
	case suggestsNothing(err):
		d = askLatest // the directory is read again now and then by itself
	case acmeclient.IsTemporary(err):
		d = min(askRetry<<min(failed-1, 10), AskEvery)
		d = max(d, min(retryAfter, askLatest))
	}
	return d + rand.N(d/10) // never sooner than the CA wants
}

// suggestsNothing reports whether the CA does not say when to renew at all.
func suggestsNothing(err error) bool { return errors.Is(err, acmeclient.ErrNoRenewalInfo) }
