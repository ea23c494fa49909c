package certmgr

import (
	"errors"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// probeDates makes the appointments of probes in a schedule.
type probeDates struct{ *schedule }

// set sets when a host that waits for DNS is probed, until it leads here.
func (r probeDates) set(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	it.owed = true
	r.setRenew(it, agendaProbe, t)
}

// resume makes a subject due that was probed, unless it is planned for later. seen is
// the result if it leads here, or nil.
func (r probeDates) resume(sub subject, seen *seenHere) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	it.seen = seen
	due := r.now()
	if !it.plan.IsZero() {
		due = pace.Later(due, it.plan.Due()) // it has a new certificate meanwhile
	}
	r.setRenew(it, agendaRenew, due)
}

// takeSeen returns the result of the probe by which sub is due, or nil.
func (r probeDates) takeSeen(sub subject) *seenHere {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(sub)
	if it == nil || it.seen == nil {
		return nil
	}
	seen := it.seen
	it.seen = nil
	if time.Since(seen.at) > seenFor {
		return nil
	}
	return seen
}

// retryKind returns how a subject is tried again after an error.
func retryKind(cause error) agendaKind {
	if e, ok := errors.AsType[*IssuanceError](cause); ok && e.State == StateWaitingForDNS {
		return agendaProbe
	}
	return agendaRetry
}
