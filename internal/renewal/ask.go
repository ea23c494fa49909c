package renewal

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
)

// AskEvery is how often the CA is asked when to renew (RFC 9773, section 4.3)
// if it sends no Retry-After. It is short enough to learn of a planned
// revocation in time.
const AskEvery = 6 * time.Hour

const (
	// AskLatest is the longest wait before the next question: a limit on the CA's
	// Retry-After, as is askSoonest.
	AskLatest  = 24 * time.Hour
	askSoonest = time.Minute

	// askRetry is the wait after a temporary failure. It doubles up to
	// AskEvery, which is the wait after any other failure (section 4.3.3).
	askRetry = 5 * time.Minute
)

// FirstAsk returns the random wait before the first question about a
// certificate, so that certificates loaded at start do not all ask at once.
func FirstAsk() time.Duration { return time.Minute + rand.N(9*time.Minute) }

// nextAsk returns the wait after an answer.
func nextAsk(info acmeclient.RenewalInfo) time.Duration {
	d := info.RetryAfter
	if d == 0 {
		d = AskEvery
	}
	d = min(max(d, askSoonest), AskLatest)
	return d + rand.N(d/20) // never sooner than the CA asked for
}

// askAfterFailure returns the wait after the given number of consecutive
// failures. retryAfter is the wait that the CA asked for, or zero.
func askAfterFailure(err error, failed int, retryAfter time.Duration) time.Duration {
	d := AskEvery
	switch {
	case suggestsNothing(err):
		d = AskLatest // acmeclient re-reads the directory from time to time
	case acmeclient.IsTemporary(err):
		d = min(askRetry<<min(failed-1, 10), AskEvery)
		d = max(d, min(retryAfter, AskLatest))
	}
	return d + rand.N(d/10) // never sooner than the CA asked for
}

// suggestsNothing reports whether the CA does not support renewal information.
func suggestsNothing(err error) bool { return errors.Is(err, acmeclient.ErrNoRenewalInfo) }
