package renewal

import "time"

// Lateness is what was reported about a certificate whose renewal fails: more as
// its end comes near. The zero value is that of a certificate whose renewal did
// not fail.
type Lateness struct {
	left     time.Duration // until its end, at the first failure; 0: there was none
	cause    error         // the last failure
	reported int           // how many of the marks
}

// IsLate reports whether the renewal failed, or was not tried before the end.
func (l *Lateness) IsLate() bool { return l.left > 0 }

// Cause returns why the renewal failed last, or nil.
func (l *Lateness) Cause() error { return l.cause }

// Failed notes that a renewal failed at now. It returns when there is something
// to be reported about it next; ok is false if there is nothing any more.
func (l *Lateness) Failed(notAfter time.Time, cause error, now time.Time) (next time.Time, ok bool) {
	l.cause = cause
	if l.left == 0 {
		l.left = max(notAfter.Sub(now), 1)
	}
	return l.next(notAfter)
}

// Pass notes the marks that have been reached at now, and returns whether there is
// one that was not reported yet.
func (l *Lateness) Pass(notAfter, now time.Time) (news bool) {
	if l.left == 0 && now.After(notAfter) {
		l.left = 1 // it ended before its renewal was tried: the machine was suspended
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

// next returns when the next mark is reached.
func (l *Lateness) next(notAfter time.Time) (time.Time, bool) {
	marks := l.marks()
	if l.left <= 0 || l.reported >= len(marks) {
		return time.Time{}, false
	}
	return notAfter.Add(time.Nanosecond - marks[l.reported]), true
}

// marks returns the times left at which a failing renewal is reported again,
// the last one being the certificate's end.
func (l *Lateness) marks() []time.Duration {
	marks := []time.Duration{l.left / 2}
	for _, m := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if m < l.left/2 {
			marks = append(marks, m)
		}
	}
	return append(marks, 0)
}
