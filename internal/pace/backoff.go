// Package pace computes the waits after failures and rate limits. It is
// arithmetic only: no I/O, no lock and no goroutine, and the time is a
// parameter. It knows the limits of public CAs, and nothing of what it paces.
package pace

import (
	"math/rand/v2"
	"time"
)

// minBackoff is the shortest wait that users can configure, to protect the CA.
const minBackoff = time.Second

// Backoff returns the wait after the given number of consecutive failures, with
// Jitter. It is taken from waits, whose last element repeats, or from
// DefaultBackoff if waits is empty.
func Backoff(waits []time.Duration, failures int) time.Duration {
	return BackoffOfRenewal(waits, failures, dailyFor)
}

// dailyFor is the lifetime of certificates for which one attempt a day is enough
// while their renewal fails, and minRenewalWait the shortest such wait for others.
const (
	dailyFor       = 90 * 24 * time.Hour
	minRenewalWait = time.Hour
)

// BackoffOfRenewal is Backoff while a certificate with a lifetime is in service.
// If that is short, so are the default waits: what is a day for 90 days is 12
// hours for 45 days, and 1.8 hours for 160 hours. An attempt an hour stays within
// Let's Encrypt's limits.
func BackoffOfRenewal(waits []time.Duration, failures int, lifetime time.Duration) time.Duration {
	d := DefaultBackoff(failures)
	if perLifetime := time.Duration(dailyFor / (24 * time.Hour)); lifetime < dailyFor {
		d = min(d, max(lifetime/perLifetime, minRenewalWait))
	}
	if n := len(waits); n > 0 {
		d = waits[max(0, min(failures, n)-1)]
	}
	return Jitter(max(d, minBackoff))
}

// DefaultBackoff returns the wait after consecutive failures of a host. It
// stays within Let's Encrypt's limit of 5 failed validations an hour for a name
// and follows the steps of its integration guide.
func DefaultBackoff(failures int) time.Duration {
	switch {
	case failures <= 1:
		return time.Minute
	case failures == 2:
		return 10 * time.Minute
	case failures < 3+24:
		return time.Hour
	}
	return 24 * time.Hour
}

// Jitter returns d plus or minus up to 10 percent, so that what failed together
// is not retried together.
func Jitter(d time.Duration) time.Duration { return within(d, 10) }

// within returns d plus or minus up to so many percent.
func within(d time.Duration, percent time.Duration) time.Duration {
	spread := int64(d/100*percent) * 2
	if spread <= 0 {
		return d
	}
	return d - time.Duration(spread/2) + time.Duration(rand.Int64N(spread))
}
