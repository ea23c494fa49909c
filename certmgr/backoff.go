package certmgr

import (
	"math/rand/v2"
	"time"
)

// defaultBackoff returns the waits after failures in a row without Manager.Backoff:
// within Let's Encrypt's 5 failed validations an hour for a name, and in the
// steps that its integration guide recommends.
func defaultBackoff(failures int) time.Duration {
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

// caBackoff returns the waits of the breaker: an outage of the CA is not the
// hosts' fault, and everybody waits for its end.
func caBackoff(failures int) time.Duration {
	switch {
	case failures <= 1:
		return time.Minute
	case failures <= 3:
		return 5 * time.Minute
	}
	return 15 * time.Minute
}

// maxRetryAfter is the most that a CA's Retry-After can hold a host back.
const maxRetryAfter = 24 * time.Hour

// minBackoff keeps a Manager.Backoff of tiny waits from hammering the CA.
const minBackoff = time.Second

// backoffFor returns the wait after the given number of failures in a row.
func (set *settings) backoffFor(failures int) time.Duration {
	d := defaultBackoff(failures)
	if n := len(set.backoff); n > 0 {
		d = set.backoff[min(failures, n)-1]
	}
	return jitter(max(d, minBackoff))
}

// jitter returns d within 10 percent, so that what failed together does not
// come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	spread := int64(d) / 5
	if spread == 0 {
		return d
	}
	return d - time.Duration(spread/2) + time.Duration(rand.Int64N(spread))
}
