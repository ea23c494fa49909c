package certmgr

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// health tracks what does not work: the failures of hosts and of the CA as a
// whole, in memory and in the Cache.
type health struct {
	*env
	failures *failures
	breaker  *breaker
	store    *store
	machine  string // this machine's name in records

	breakerRead  atomic.Bool  // the breaker's record in the Cache was read
	breakerSaved atomic.Int64 // the time in that record, in Unix nanoseconds; 0 if there is none
}

// retryAt returns when sub may be tried again in the background.
func (h *health) retryAt(sub subject) time.Time {
	now := h.now()
	if rec := h.failures.active(sub, now); rec != nil {
		return rec.err.RetryAt
	}
	retry := now.Add(pace.Jitter(retryRenewal))
	if until, _, _ := h.breaker.state(); until.After(retry) {
		return until
	}
	return retry
}

// machineName returns the name of this machine for failure records.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
