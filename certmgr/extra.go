package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// Extra attempts are those before the end of a backoff that something has
// earned: a restart, which may follow a repair, changed settings, or a change
// of the host's entry on the list. They are limited for each host, and recorded
// in the Cache before they begin, so that a process that crashes and restarts
// again and again, or a list that flaps, gains no more.
const (
	extraWindow = time.Hour
	maxExtra    = 2 // within extraWindow

	// maxExtraSettings is maxExtra after a change of the settings, which is a
	// person's work: as many as Let's Encrypt allows failed validations.
	maxExtraSettings = 5
)

// extra is the state of a host's extra attempts. It belongs to a failure, and
// does not change.
type extra struct {
	spent []time.Time // when those within extraWindow began, oldest first
	why   string      // the next attempt is an extra one, and this is what has earned it; empty if it is not
	until time.Time   // the end of the backoff without it; zero if why is empty
}

// next returns when the next extra attempt may begin, if limit of them may
// within extraWindow.
func (x extra) next(now time.Time, limit int) time.Time {
	spent := x.recent(now)
	if len(spent) < limit {
		return now
	}
	return spent[len(spent)-limit].Add(extraWindow)
}

// recent returns the attempts that still count at now. Others are over, or were
// recorded by a clock that was ahead.
func (x extra) recent(now time.Time) (spent []time.Time) {
	for _, t := range x.spent {
		if now.Sub(t).Abs() < extraWindow {
			spent = append(spent, t)
		}
	}
	return spent
}

// carried returns what an extra attempt leaves to the failure that follows.
func (x extra) carried() extra { return extra{spent: x.spent} }

// retryAt returns the failure with another time of the next attempt.
func (rec *failure) retryAt(t time.Time) *failure {
	r, e := *rec, *rec.err
	e.RetryAt = t
	r.err = &e
	return &r
}

// withExtra returns the failure with the next attempt at the first time at which
// an extra one may begin. If that is not before the end of the backoff, it
// returns rec.
func (rec *failure) withExtra(why string, limit int, now time.Time) *failure {
	end := rec.end()
	at := pace.Later(rec.extra.next(now, limit), rec.asked)
	if !at.Before(end) {
		return rec
	}
	r := rec.retryAt(at)
	r.extra.why, r.extra.until = why, end
	return r
}

// end returns the end of the backoff without an extra attempt.
func (rec *failure) end() time.Time {
	return pace.Later(rec.err.RetryAt, rec.extra.until)
}

// withoutExtra returns the failure after its extra attempt began at now, or
// could not begin.
func (rec *failure) withoutExtra() *failure {
	r := rec.retryAt(rec.end())
	r.extra = rec.extra.carried()
	return r
}

// spend prepares the extra attempt that rec, sub's last failure, has room for,
// and returns what is the last failure then. If the Cache does not record the
// attempt, it must not begin, and the error says until when the host backs off.
func (h *health) spend(ctx context.Context, sub subject, rec *failure) (*failure, error) {
	now := h.now()
	if rec == nil || rec.extra.why == "" || !now.Before(rec.end()) {
		return rec, nil
	}
	after := rec.withoutExtra()
	after.extra.spent = append(after.extra.recent(now), now)
	h.remember(sub, after)
	if !h.isRecorded(sub, after) {
		return after, nil
	}
	key, record := h.failureEntry(sub, after)
	counts := func() bool { return h.failures.counts(sub, after) }
	if err := h.putRecord(ctx, key, record, counts); err != nil {
		return after, backingOff(after)
	}
	return after, nil
}
