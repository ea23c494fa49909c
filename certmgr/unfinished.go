package certmgr

import (
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/order"
)

const (
	// unfinishedFor is how long an order can be resumed. One that is still
	// processing after that will not succeed.
	unfinishedFor = 24 * time.Hour

	maxUnfinished = 1_000
)

// unfinishedOrders holds, by subject, the orders that conversations did not
// finish. The zero value is ready.
type unfinishedOrders struct {
	mu     sync.Mutex
	orders capped.Map[subject, *order.Unfinished]
}

// take removes and returns the unfinished order of an earlier attempt, or nil.
func (u *unfinishedOrders) take(sub subject, account acme.KeyID, now time.Time) *order.Unfinished {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, ok := u.orders.Get(sub)
	u.orders.Delete(sub)
	if !ok || o.Account != account || now.Sub(o.Since) >= unfinishedFor {
		return nil
	}
	return o
}

// put keeps an order for the next attempt. If there are too many, an arbitrary
// one is evicted, at the cost of one more order.
func (u *unfinishedOrders) put(sub subject, o *order.Unfinished) {
	if o == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.orders.Max = maxUnfinished
	u.orders.Put(sub, o, nil)
}
