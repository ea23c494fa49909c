package acmeclient

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter is the longest wait that a CA can ask for. ZeroSSL has asked
// for a day while it was merely processing.
const maxRetryAfter = 24 * time.Hour

const retryAfterHeader = "Retry-After"

// RetryAfter returns the wait that the Retry-After field of h asks for, in
// either form (RFC 9110, section 10.2.3): a number of seconds, or a date,
// measured from now. It is rounded up to whole seconds, from one second to 24
// hours; longer waits are cut. It returns 0 and false if the field is missing,
// malformed, negative, zero or in the past.
func RetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := strings.Trim(h.Get(retryAfterHeader), " \t")
	if v == "" {
		return 0, false
	}
	if digits(v) {
		return delaySeconds(v)
	}
	date, err := http.ParseTime(v)
	if err != nil || !date.After(now) {
		return 0, false
	}
	d := min(date.Sub(now), maxRetryAfter)
	return (d + time.Second - 1).Truncate(time.Second), true
}

func delaySeconds(v string) (time.Duration, bool) {
	n, err := strconv.ParseUint(v, 10, 64)
	switch {
	case err != nil, n > uint64(maxRetryAfter/time.Second): // digits only: err means out of range
		return maxRetryAfter, true
	case n == 0:
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

func digits(v string) bool {
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// rewriteRetryAfter replaces the field by one positive number of seconds, or
// removes it. On anything else x/crypto/acme polls without a pause. The field is
// by the CA's clock, and so is the response's Date; now counts if it has none.
func rewriteRetryAfter(h http.Header, now time.Time) {
	if date, ok := dateOf(h); ok {
		now = date
	}
	d, ok := RetryAfter(h, now)
	if !ok {
		h.Del(retryAfterHeader)
		return
	}
	h.Set(retryAfterHeader, strconv.FormatInt(int64(d/time.Second), 10))
}
