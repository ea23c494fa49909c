package certmgr

import (
	"crypto/rand"
	"os"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// health tracks what does not work: the failures of hosts and of the CA as a
// whole, in memory and in the Cache.
type health struct {
	*env
	failures     *failures
	breaker      *breaker
	breakerStore *breakerStore
	store        *store
	self         origin // of the failures that this process records, without settings
	began        time.Time
}

func newHealth(e *env, f *failures, s *store) *health {
	machine := machineName()
	b := newBreaker(e.dir, e.audit, e.now)
	return &health{
		env:      e,
		failures: f,
		breaker:  b,
		breakerStore: &breakerStore{
			env:     e,
			breaker: b,
			store:   s,
			machine: machine,
		},
		store: s,
		self:  origin{machine: machine, process: strings.ToLower(rand.Text()[:10])},
		began: e.now(),
	}
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
