package pace

import "time"

// A Bucket is a token bucket: it is full at first, and gets tokens back at an even
// rate. Its callers can be told to leave some of the tokens to others.
//
// Times are those of a monotonic clock, counted from any start. It is not safe for
// concurrent use.
type Bucket struct {
	limit Limit
	lane  Lane
}

// Orders per account at Let's Encrypt: 300 in 3 hours, refilled at one every 36
// seconds.
const (
	AccountOrders = 300
	AccountWindow = 3 * time.Hour
)

// NewBucket returns a full bucket of size tokens, which an empty one gets back
// within refill.
func NewBucket(size int, refill time.Duration) Bucket {
	return Bucket{limit: Limit{Burst: size, Every: max(refill/time.Duration(max(size, 1)), 1)}}
}

// Take takes a token if more than keep are left, and otherwise returns when that
// will be so.
func (b *Bucket) Take(ran time.Duration, keep int) (next time.Duration, ok bool) {
	return b.lane.Take(ran, b.above(keep))
}

// Next is Take without taking: it returns ran if there is a token now.
func (b *Bucket) Next(ran time.Duration, keep int) time.Duration {
	return b.lane.next(ran, b.above(keep))
}

// above returns the limit for those who must leave keep tokens.
func (b *Bucket) above(keep int) Limit {
	return Limit{Burst: b.limit.Burst - keep, Every: b.limit.Every}
}

// Spend takes a token, even one that is not there.
func (b *Bucket) Spend(ran time.Duration) { b.SetLack(ran, b.Lack(ran)+b.limit.Every) }

// GiveBack returns a token that was taken.
func (b *Bucket) GiveBack(ran time.Duration) { b.SetLack(ran, b.Lack(ran)-b.limit.Every) }

// Left returns how many tokens there are.
func (b *Bucket) Left(ran time.Duration) int {
	return b.limit.Burst - int((b.Lack(ran)+b.limit.Every-1)/b.limit.Every)
}

// Lack returns how long it takes until the bucket is full again.
func (b *Bucket) Lack(ran time.Duration) time.Duration { return max(b.lane.empty-ran, 0) }

// SetLack sets how long it takes until the bucket is full again: at most as long
// as for an empty one.
func (b *Bucket) SetLack(ran, lack time.Duration) {
	b.lane.empty = ran + min(max(lack, 0), time.Duration(b.limit.Burst)*b.limit.Every)
}

// Used returns Lack as a number of tokens, whatever the rate is.
func (b *Bucket) Used(ran time.Duration) float64 {
	return float64(b.Lack(ran)) / float64(b.limit.Every)
}

// SetUsed sets the bucket to a value of Used that was true some time ago, and of
// which more were taken since.
func (b *Bucket) SetUsed(ran time.Duration, used float64, ago time.Duration, since int) {
	used = min(max(used, 0), float64(b.limit.Burst))
	left := max(time.Duration(used*float64(b.limit.Every))-max(ago, 0), 0)
	b.SetLack(ran, left+time.Duration(since)*b.limit.Every)
}
