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

// A Lane is a rate limiter that hands out turns (the generic cell rate
// algorithm). It stores when it will be empty, so later callers get later turns
// and need not ask again. A turn that is used much later than it comes does not
// count for the time when it is used, so its holder has to take another.
//
// Times are those of a monotonic clock, counted from any start: a clock that is
// set neither opens nor closes a lane. Pass the same Limit at each call. The
// zero value is an empty lane. It is not safe for concurrent use.
type Lane struct {
	empty time.Duration
}

// Reserve takes the next free turn and returns it.
func (l *Lane) Reserve(ran time.Duration, limit Limit) (turn time.Duration) {
	turn = l.next(ran, limit)
	l.take(turn, limit)
	return turn
}

// Take takes the current turn if it is free, and otherwise returns the next free
// one.
func (l *Lane) Take(ran time.Duration, limit Limit) (next time.Duration, ok bool) {
	turn := l.next(ran, limit)
	if turn > ran {
		return turn, false
	}
	l.take(turn, limit)
	return turn, true
}

// EmptyAt returns when everything taken has been refilled and the lane is as
// good as new. It may be in the past.
func (l *Lane) EmptyAt() time.Duration { return l.empty }

func (l *Lane) next(ran time.Duration, limit Limit) time.Duration {
	return max(ran, l.empty-time.Duration(limit.Burst-1)*limit.Every)
}

func (l *Lane) take(turn time.Duration, limit Limit) { l.empty = max(l.empty, turn) + limit.Every }
