package renewal

import (
	"math/rand/v2"
	"time"
)

// Dates is when a certificate is valid, as the CA dated it.
type Dates struct{ NotBefore, NotAfter time.Time }

const (
	// MinInterval is the least time between two issuances for a subject.
	MinInterval = time.Minute

	// maxUnasked is the age of a certificate from which on the CA may have it
	// renewed whenever it wants; CAs revoke within a day or more.
	maxUnasked = 6 * time.Hour
)

// Lifetime is what lies between the dates; negative if the CA confused them.
func (d Dates) Lifetime() time.Duration { return d.NotAfter.Sub(d.NotBefore) }

// ByAge returns when a certificate is due by its age: with 1/3 of its lifetime
// left, with 1/2 under 10 days (Let's Encrypt's integration guide), or
// renewBefore its end if that is positive, but never in the first half of a lifetime.
// Up to a tenth of that is taken off at random.
func (d Dates) ByAge(renewBefore time.Duration) time.Time {
	lifetime := d.Lifetime()
	left := lifetime / 3
	if lifetime < 10*24*time.Hour {
		left = lifetime / 2
	}
	switch {
	case renewBefore > 0:
		left = min(renewBefore, lifetime/2)
	case left > 30*24*time.Hour:
		left = 30 * 24 * time.Hour // as autocert
	}
	// Up to a tenth earlier, so that what was issued together is not due together.
	left = max(left, 0) // a CA may date a certificate so that it ends before it begins
	return d.NotAfter.Add(-left - rand.N(left/10+1))
}

// IsAged reports whether a certificate that was just issued is older than CAs
// date them (Let's Encrypt by an hour): the local clock is ahead.
func (d Dates) IsAged(now time.Time) bool { return now.Sub(d.NotBefore) > d.Lifetime()/5 }

// AgedUntil is how long nothing is ordered again after a certificate that the
// local clock, which seems to be ahead, calls old: by the lifetime that it
// really has, and not by its dates.
func (d Dates) AgedUntil(now time.Time) time.Time { return now.Add(d.Lifetime() / 5) }

// IsUrgent reports whether so little is left of a lifetime that the renewal goes
// before others.
func (d Dates) IsUrgent(now time.Time) bool { return d.NotAfter.Sub(now) <= d.Lifetime()/6 }

// notDueBefore bounds how soon a certificate just issued can be due, however
// short or old it is: no CA and no setting makes renewal a loop.
func (d Dates) notDueBefore(now time.Time) time.Time {
	left := d.NotAfter.Sub(now)
	if d.IsAged(now) {
		return later(now.Add(max(MinInterval, left*9/10)), d.AgedUntil(now))
	}
	return now.Add(max(MinInterval, left/3))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
