package certmgr

import (
	"sync"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/order"
)

const maxUnfinished = 1_000

// unfinishedOrders holds, by subject, the orders that conversations did not
// finish. The zero value is ready.
type unfinishedOrders struct {
	mu     sync.Mutex
	orders capped.Map[subject, *order.Unfinished]
}

// get returns the order that an earlier attempt did not finish, or nil.
func (u *unfinishedOrders) get(sub subject) *order.Unfinished {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, _ := u.orders.Get(sub)
	return o
}

// keep remembers an order for the next attempt, or with nil forgets it. If there are
// too many, an arbitrary one is evicted, at the cost of one more order.
func (u *unfinishedOrders) keep(sub subject, o *order.Unfinished) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o == nil {
		u.orders.Delete(sub)
		return
	}
	u.orders.Max = maxUnfinished
	u.orders.Put(sub, o, nil)
}
