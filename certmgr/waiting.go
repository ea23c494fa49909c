package certmgr

import (
	"sync"
	"time"

	"github.com/nostall/nostall/internal/capped"
)

// waiting holds hosts that were refused a certificate because the CA is out of
// service, each for as long as it counts as waiting. While there are any, a
// prober attends to them.
type waiting struct {
	attend func() // starts the prober; must not block; set before the first use

	mu       sync.Mutex
	waiters  capped.Map[subject, waiter]
	attended bool // the prober is running
}

// waiter is a host that waits.
type waiter struct {
	req   issueRequest
	since time.Time // it is not before those that have waited longer
	seen  time.Time // the last refusal
}

const (
	// maxWaiters is how many hosts are remembered. It does not matter which: one
	// of them ends the outage for all. Others come again by themselves.
	maxWaiters = 64

	// dueWaits is how long a renewal or a Start counts as waiting: it is retried
	// every retryRenewal.
	dueWaits = 2 * retryRenewal
)

func newWaiting() *waiting {
	return &waiting{attend: func() {}, waiters: capped.Map[subject, waiter]{Max: maxWaiters}}
}

// isDue reports whether the waiter is a renewal or a Start, not a visitor.
func (w waiter) isDue() bool {
	return w.req.priority == background || w.req.priority == urgentRenewal
}

// worth ranks waiters for eviction: what strangers may have made up comes first.
func (w waiter) worth() int {
	worth := 0
	if !w.isDue() {
		worth++
	}
	switch w.req.grant.trust {
	case untrusted:
		return worth
	case byPolicy:
		return worth + 2
	}
	return worth + 4
}

// add notes that a request was refused. Nobody waits for a second certificate.
func (w *waiting) add(req issueRequest, now time.Time) {
	if req.second {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	this := waiter{req: req, since: now, seen: now}
	if known, ok := w.waiters.Get(req.sub); ok {
		this.since = known.since
	}
	w.waiters.Put(req.sub, this, func(a, b waiter) bool { return a.worth() < b.worth() })
	if !w.attended {
		w.attended = true
		w.attend()
	}
}

// isAttended reports whether the prober is running.
func (w *waiting) isAttended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.attended
}

// next removes the waiter that has waited longest, and returns it. Visitors go
// first.
func (w *waiting) next() (first waiter, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.waiters.All() {
		if !ok || one.isBefore(first) {
			first, ok = one, true
		}
	}
	w.waiters.Delete(first.req.sub)
	return first, ok
}

func (w waiter) isBefore(other waiter) bool {
	if w.isDue() != other.isDue() {
		return other.isDue()
	}
	return w.since.Before(other.since)
}

// rest forgets those who have not come again for so long, and reports whether
// nobody is left: the prober must end then.
func (w *waiting) rest(now time.Time, patience time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for sub, one := range w.waiters.All() {
		limit := patience
		if one.isDue() {
			limit = max(limit, dueWaits)
		}
		if since := now.Sub(one.seen); since < 0 || since > limit {
			w.waiters.Delete(sub)
		}
	}
	w.attended = w.waiters.Len() > 0
	return !w.attended
}
