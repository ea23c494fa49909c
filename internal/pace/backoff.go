// Package pace says how fast: the waits after failures, and the limits on how often
// something is done. It is arithmetic only: no I/O, no lock and no goroutine, and
// the time is a parameter. It knows the limits of public CAs, and nothing of what
// is paced.
package pace

import (
	"math/rand/v2"
	"time"
)

// minBackoff keeps waits that users set from hammering the CA.
const minBackoff = time.Second

// Backoff returns the wait after the given number of failures in a row, with
// Jitter: one of waits, of which the last one repeats, or if there are none that of
// DefaultBackoff.
func Backoff(waits []time.Duration, failures int) time.Duration {
	d := DefaultBackoff(failures)
	if n := len(waits); n > 0 {
		d = waits[max(0, min(failures, n)-1)]
	}
	return Jitter(max(d, minBackoff))
}

// DefaultBackoff returns the waits after failures in a row for a host: within
// Let's Encrypt's 5 failed validations an hour for a name, and in the steps that
// its integration guide recommends.
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

// CABackoff returns the waits after failures in a row of a CA as a whole: an outage
// is not the hosts' fault, and everybody waits for its end.
func CABackoff(failures int) time.Duration {
	switch {
	case failures <= 1:
		return time.Minute
	case failures <= 3:
		return 5 * time.Minute
	}
	return 15 * time.Minute
}

// Jitter returns d within 10 percent, so that what failed together does not
// come back together.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	spread := int64(d) / 5
	if spread == 0 {
		return d
	}
	return d - time.Duration(spread/2) + time.Duration(rand.Int64N(spread))
}
