package certmgr

import (
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// lateness is what was said about a certificate whose renewal fails: more as
// its end comes near. schedule.mu guards it.
type lateness struct {
	left  time.Duration // until its end, at the first failure; 0: there was none
	cause error         // the last failure
	said  int           // how many of the marks were reported
}

// marks returns the times left at which a failing renewal is reported again,
// the last one being the certificate's end.
func (l lateness) marks() []time.Duration {
	marks := []time.Duration{l.left / 2}
	for _, m := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if m < l.left/2 {
			marks = append(marks, m)
		}
	}
	return append(marks, 0)
}

// next returns when the next mark is reached.
func (l lateness) next(cert *certificate) (time.Time, bool) {
	marks := l.marks()
	if l.left <= 0 || l.said >= len(marks) {
		return time.Time{}, false
	}
	return cert.notAfter.Add(time.Nanosecond - marks[l.said]), true
}

// reportLateness reports what is due to be said about a certificate whose
// renewal fails: each mark once, and of several that passed the last one.
func (r *renewals) reportLateness(cert *certificate, now time.Time) {
	if cert == nil || !r.schedule.passMarks(cert, now) {
		return
	}
	e := certEvent(audit.RenewalLate, cert)
	e.Reason = fmt.Sprintf("its certificate ends in %v", cert.notAfter.Sub(now).Round(time.Minute))
	if !cert.usable(now) {
		e.Kind, e.Reason = audit.CertificateExpired, ""
	}
	if rec := r.health.failures.last(cert.subject); rec != nil {
		e.RetryAt, e.Err = rec.err.RetryAt, rec.err
	} else if until, _, cause := r.health.breaker.state(); cause != nil {
		e.RetryAt, e.Err = until, cause
	} else {
		e.RetryAt, e.Err = now, r.schedule.lastCause(cert)
	}
	r.audit.emit(e)
}

func (r *schedule) lastCause(cert *certificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[cert.subject]; it != nil {
		return it.late.cause
	}
	return nil
}

// passMarks notes the marks that have been reached, and reports whether there
// is one that was not reported yet.
func (r *schedule) passMarks(cert *certificate, now time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[cert.subject]
	if it == nil {
		return false
	}
	if it.late.left == 0 && !cert.usable(now) {
		it.late.left = 1 // it ended before its renewal was tried: a machine that slept
	}
	for {
		t, ok := it.late.next(cert)
		if !ok || now.Before(t) {
			return news
		}
		it.late.said++
		news = true
	}
}

// failing notes that a renewal failed with this much left, and returns when
// there is something to be said about it.
func (l *lateness) failing(cert *certificate, cause error, now time.Time) (time.Time, bool) {
	l.cause = cause
	if l.left == 0 {
		l.left = max(cert.notAfter.Sub(now), 1)
	}
	return l.next(cert)
}
