package certmgr

import (
	"slices"
	"sync/atomic"
	"time"
)

// shown is what Snapshot says of a renewalItem, kept apart so that a walk over
// all hosts takes no lock that a handshake needs.
type shown struct {
	// word is when the item is due, in Unix nanoseconds, with the index of the
	// cause in shownCauses in place of its low bits. It is 0 for an item without
	// an appointment.
	word atomic.Int64

	notes atomic.Pointer[shownNotes] // nil for most
}

// shownNotes are the rest.
type shownNotes struct {
	failure     error  // why the renewal fails, or nil
	explanation string // URL of the CA's page about its suggestion, or ""
}

const shownCause = 7 // the bits of the cause

// shownCauses is what the low bits of shown.word stand for.
var shownCauses = [shownCause + 1]RenewalCause{
	RenewalCauseLifetime, RenewalCauseCA, RenewalCauseRetry, RenewalCauseTests, RenewalCauseUnneeded,
}

// show updates what Snapshot says of an item. schedule.mu is held.
func (it *renewalItem) show() {
	notes := shownNotes{failure: it.late.Cause(), explanation: it.plan.Explanation()}
	if it.unneeded {
		notes.failure = nil
	}
	if notes.failure == nil && notes.explanation == "" {
		it.shown.notes.Store(nil)
	} else {
		it.shown.notes.Store(&notes)
	}
	cause := slices.Index(shownCauses[:], it.cause())
	it.shown.word.Store(it.renew.At().UnixNano()&^shownCause | int64(cause))
}

// cause returns what decides when an item is due. schedule.mu is held.
func (it *renewalItem) cause() RenewalCause {
	switch {
	case it.unneeded:
		return RenewalCauseUnneeded
	case it.plan.IsReplacement():
		return RenewalCauseTests
	case it.kind == agendaRetry || it.kind == agendaProbe:
		return RenewalCauseRetry
	case it.plan.BySuggestion():
		return RenewalCauseCA
	default:
		return RenewalCauseLifetime
	}
}

// isUnneeded reports whether no client needs the item.
func (s *shown) isUnneeded() bool {
	return shownCauses[s.word.Load()&shownCause] == RenewalCauseUnneeded
}

// describe sets when sub is due, what decided that, and why its renewal fails,
// for Snapshot.
func (r *schedule) describe(sub subject, st *HostStatus) {
	it := r.items.Get(sub)
	if it == nil {
		return
	}
	word := it.shown.word.Load()
	if word == 0 {
		return
	}
	st.RenewAt = time.Unix(0, word&^shownCause)
	st.RenewalCause = shownCauses[word&shownCause]
	if notes := it.shown.notes.Load(); notes != nil {
		st.RenewalFailure, st.ExplanationURL = notes.failure, notes.explanation
	}
}
