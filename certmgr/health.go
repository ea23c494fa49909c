package certmgr

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// health knows what does not work: the failures of hosts and of the CA as a whole,
// in memory and in the Cache.
type health struct {
	*env
	failures *failures
	breaker  *breaker
	store    *store
	machine  string // what records are signed with

	breakerRead  atomic.Bool  // the Cache's record of the breaker
	breakerSaved atomic.Int64 // until when that says, in Unix nanoseconds; 0: there is none
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

// machineName is what failure records are signed with.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
