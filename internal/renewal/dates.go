package renewal

import (
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// Dates is the validity period of a certificate, as dated by the CA.
type Dates struct{ NotBefore, NotAfter time.Time }

const (
	// MinInterval is the shortest time between two issuances for a subject.
	MinInterval = time.Minute

	// maxUnasked is the age of a certificate from which the CA may request
	// renewal at any time. CAs revoke within a day or later.
	maxUnasked = 6 * time.Hour
)

// Lifetime returns the length of the validity period. It is negative if the CA
// swapped the dates.
func (d Dates) Lifetime() time.Duration { return d.NotAfter.Sub(d.NotBefore) }

// ByAge returns when a certificate is due by its age: with 1/3 of its lifetime
// left, or 1/2 if the lifetime is under 10 days (Let's Encrypt's integration
// guide), or renewBefore its expiry if that is positive, but never in the first
// half of the lifetime. A random part, up to a tenth of the time left, is
// subtracted.
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
	// The random part spreads certificates that were issued together.
	left = max(left, 0) // a CA may date NotAfter before NotBefore
	return d.NotAfter.Add(-left - rand.N(left/10+1))
}

// IsAged reports whether a certificate that was just issued looks older than
// CAs backdate them (Let's Encrypt by an hour). Then the local clock is ahead.
func (d Dates) IsAged(now time.Time) bool { return now.Sub(d.NotBefore) > d.Lifetime()/5 }

// AgedUntil returns until when no new order is placed after an aged certificate
// (see IsAged). It is computed from the real lifetime, since the clock cannot
// be trusted with the dates.
func (d Dates) AgedUntil(now time.Time) time.Time { return now.Add(d.Lifetime() / 5) }

// IsUrgent reports whether so little of the lifetime is left that this renewal
// goes before others.
func (d Dates) IsUrgent(now time.Time) bool { return d.NotAfter.Sub(now) <= d.Lifetime()/6 }

// notDueBefore returns the earliest renewal time of a certificate that was just
// issued. However short-lived or old it is, no CA and no setting can make
// renewal a loop.
func (d Dates) notDueBefore(now time.Time) time.Time {
	left := d.NotAfter.Sub(now)
	if d.IsAged(now) {
		return pace.Later(now.Add(max(MinInterval, left*9/10)), d.AgedUntil(now))
	}
	return now.Add(max(MinInterval, left/3))
}
