package renewal

import "time"

// Lateness tracks what was reported about a certificate whose renewal keeps
// failing: reports come at marks before its expiry. The zero value is for a
// certificate whose renewal has not failed.
type Lateness struct {
	left     time.Duration // until expiry, at the first failure; 0: no failure
	cause    error         // the last failure
	reported int           // number of marks reported
}

// Cause returns the error of the last failed renewal, or nil.
func (l *Lateness) Cause() error { return l.cause }

// Failed notes that a renewal failed at now. It returns when the next report is
// due; ok is false if none is left.
func (l *Lateness) Failed(notAfter time.Time, cause error, now time.Time) (next time.Time, ok bool) {
	l.cause = cause
	if l.left == 0 {
		l.left = max(notAfter.Sub(now), 1)
	}
	return l.next(notAfter)
}

// Pass notes the marks reached at now. It reports whether any of them is new.
func (l *Lateness) Pass(notAfter, now time.Time) (news bool) {
	if l.left == 0 && now.After(notAfter) {
		l.left = 1 // it expired before its renewal was tried: the machine was suspended
	}
	for {
		t, ok := l.next(notAfter)
		if !ok || now.Before(t) {
			return news
		}
		l.reported++
		news = true
	}
}

// next returns the time of the next mark.
func (l *Lateness) next(notAfter time.Time) (time.Time, bool) {
	marks := l.marks()
	if l.left <= 0 || l.reported >= len(marks) {
		return time.Time{}, false
	}
	return notAfter.Add(time.Nanosecond - marks[l.reported]), true
}

// marks returns the times left at which a failing renewal is reported. The last
// one is expiry.
func (l *Lateness) marks() []time.Duration {
	marks := []time.Duration{l.left / 2}
	for _, m := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if m < l.left/2 {
			marks = append(marks, m)
		}
	}
	return append(marks, 0)
}
