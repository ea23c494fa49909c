package pace

import "time"

// A Limit allows Burst at once, and then one every Every.
type Limit struct {
	Burst int
	Every time.Duration
}

// These are half of Let's Encrypt's limits. The other half is left to renewals
// and to issuances that are not paced.
const (
	// Orders per account: 300 in 3 hours, refilled at one every 36 seconds.
	OrderBurst = 150
	OrderEvery = 72 * time.Second

	// Certificates per registered domain: 50 in 7 days, refilled at one every
	// 202 minutes.
	DomainBurst = 25
	DomainEvery = 2 * 202 * time.Minute
)

// PerDomain returns the limit on certificates for a registered domain.
func PerDomain() Limit { return Limit{Burst: DomainBurst, Every: DomainEvery} }

// A Lane is a rate limiter that hands out times (the generic cell rate
// algorithm). It stores when it will be empty, so later callers get later times
// and need not ask again. Pass the same Limit at each call. The zero value is
// an empty lane. It is not safe for concurrent use.
type Lane struct {
	empty time.Time
	last  time.Time // the last now
}

// Reserve takes the next free time and returns it.
func (l *Lane) Reserve(now time.Time, limit Limit) time.Time {
	at := l.next(now, limit)
	l.take(at, limit)
	return at
}

// Take takes the current time if it is free, and otherwise returns the next
// free time.
func (l *Lane) Take(now time.Time, limit Limit) (next time.Time, ok bool) {
	at := l.next(now, limit)
	if at.After(now) {
		return at, false
	}
	l.take(at, limit)
	return at, true
}

// EmptyAt returns when everything taken has been refilled and the lane is as
// good as new. It may be in the past.
func (l *Lane) EmptyAt() time.Time { return l.empty }

// next returns the next free time. If the clock was set back, the lane moves
// back with it; otherwise it would stay full for as long as the clock was
// ahead.
func (l *Lane) next(now time.Time, limit Limit) time.Time {
	if now.Before(l.last) {
		l.empty = l.empty.Add(now.Sub(l.last))
	}
	l.last = now
	return Later(now, l.empty.Add(-time.Duration(limit.Burst-1)*limit.Every))
}

func (l *Lane) take(at time.Time, limit Limit) { l.empty = Later(l.empty, at).Add(limit.Every) }
