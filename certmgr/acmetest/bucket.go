package acmetest

import (
	"sync"
	"time"
)

// Limit is a token bucket: it allows Burst events at once, and then one more
// each Refill. The zero Limit is off. With a Burst and no Refill, it allows
// Burst events in all.
type Limit struct {
	// Burst is the capacity of the bucket, in tokens.
	Burst int
	// Refill is the time until one token is restored.
	Refill time.Duration
}

// never is the wait for a token that will not be restored.
const never time.Duration = -1

// bucket is the used part of a Limit. The zero bucket is full.
type bucket struct {
	spent int       // tokens
	since time.Time // start of the current refill; meaningless if none is spent
}

// refill restores the tokens that are due.
func (b *bucket) refill(now time.Time, l Limit) {
	if b.since.After(now) {
		b.since = now // the clock was set back: that costs at most one Refill
	}
	if b.spent == 0 || l.Refill <= 0 {
		return
	}
	due := int64(now.Sub(b.since) / l.Refill)
	if due >= int64(b.spent) {
		*b = bucket{}
		return
	}
	b.spent -= int(due)
	b.since = b.since.Add(time.Duration(due) * l.Refill)
}

// wait returns the time until a token is available: 0 if there is one, never if
// none will be restored.
func (b *bucket) wait(now time.Time, l Limit) time.Duration {
	b.refill(now, l)
	switch {
	case l.Burst <= 0 || b.spent < l.Burst:
		return 0
	case l.Refill <= 0:
		return never
	default:
		return b.since.Add(l.Refill).Sub(now)
	}
}

// spend takes a token, if there is one.
func (b *bucket) spend(now time.Time, l Limit) {
	if l.Burst <= 0 || b.wait(now, l) != 0 {
		return
	}
	if b.spent == 0 {
		b.since = now
	}
	b.spent++
}

// charge is one event that counts against a Limit.
type charge struct {
	limit Limit
	key   bucketKey
	what  string // what the limit counts, for error texts
	whose string // whose bucket it is, for error texts
}

// bucketKey identifies a bucket: the field of RateLimits, and whom it counts
// for.
type bucketKey struct{ limit, of string }

// buckets holds the buckets that are not full. The zero value has none.
type buckets struct {
	mu   sync.Mutex
	list map[bucketKey]*bucket
}

// find returns the bucket of a charge. buckets.mu is held.
func (bs *buckets) find(c charge) *bucket {
	b := bs.list[c.key]
	if b == nil {
		if bs.list == nil {
			bs.list = make(map[bucketKey]*bucket)
		}
		b = new(bucket)
		bs.list[c.key] = b
	}
	return b
}

// take spends a token for each charge in spent, provided that there is one for
// each of them and for each charge in checked. Otherwise it spends none and
// returns the charge with the longest wait, and that wait.
func (bs *buckets) take(now time.Time, spent, checked []charge) (refused *charge, wait time.Duration) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, list := range [][]charge{spent, checked} {
		for _, c := range list {
			d := bs.find(c).wait(now, c.limit)
			if d == never || d > wait && wait != never {
				refused, wait = &c, d
			}
		}
	}
	if refused == nil {
		for _, c := range spent {
			bs.find(c).spend(now, c.limit)
		}
	}
	return refused, wait
}

// spend takes a token for each charge whose bucket has one.
func (bs *buckets) spend(now time.Time, charges []charge) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	for _, c := range charges {
		bs.find(c).spend(now, c.limit)
	}
}

// reset fills the bucket of a charge.
func (bs *buckets) reset(c charge) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	delete(bs.list, c.key)
}
