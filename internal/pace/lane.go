package pace

import "time"

// A Limit is so many at once, and then one each time that Every is over.
type Limit struct {
	Burst int
	Every time.Duration
}

// Half of Let's Encrypt's limits; the other half is left to those who do not wait
// for a pace, and to renewals.
const (
	// Orders of an account: 300 in 3 hours, of which one comes back each 36 s.
	OrderBurst = 150
	OrderEvery = 72 * time.Second

	// Certificates for a registered domain: 50 in 7 days, of which one comes back
	// each 202 minutes.
	DomainBurst = 25
	DomainEvery = 2 * 202 * time.Minute
)

// PerDomain returns the limit on certificates for a registered domain.
func PerDomain() Limit { return Limit{Burst: DomainBurst, Every: DomainEvery} }

// A Lane hands out moments within a limit, which is the same at each call. It holds
// when it would be empty (the generic cell rate algorithm), so that those who come
// later are told a later moment and need not ask again. The zero value is an empty
// lane. It is not safe for concurrent use.
type Lane struct {
	empty time.Time
	last  time.Time // the last now
}

// Reserve returns the next free moment, which is taken by that.
func (l *Lane) Reserve(now time.Time, limit Limit) time.Time {
	at := l.next(now, limit)
	l.take(at, limit)
	return at
}

// Take takes a moment if one is free now, or else returns when the next one will be.
func (l *Lane) Take(now time.Time, limit Limit) (next time.Time, ok bool) {
	at := l.next(now, limit)
	if at.After(now) {
		return at, false
	}
	l.take(at, limit)
	return at, true
}

// EmptyAt returns from when on nothing is left of what was taken: then the lane is as
// good as a new one. It may be past.
func (l *Lane) EmptyAt() time.Time { return l.empty }

// next returns the next free moment. If the clock was set back, what was taken goes
// back with it: else it would be taken for as long as the clock was ahead.
func (l *Lane) next(now time.Time, limit Limit) time.Time {
	if now.Before(l.last) {
		l.empty = l.empty.Add(now.Sub(l.last))
	}
	l.last = now
	return later(now, l.empty.Add(-time.Duration(limit.Burst-1)*limit.Every))
}

func (l *Lane) take(at time.Time, limit Limit) { l.empty = later(l.empty, at).Add(limit.Every) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
