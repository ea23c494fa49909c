package certmgr

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/order"
)

// maxUnfinished is the largest number of orders of hosts that the list, or
// HostWhitelist, has by their exact names, and that of all others.
const maxUnfinished = 1_000

// unfinishedOrders holds, by subject, the orders that conversations did not
// finish. The zero value is ready.
type unfinishedOrders struct {
	mu     sync.Mutex
	orders capped.Map[subject, *keptOrder]
	none   capped.Map[subject, time.Time] // when the Cache was found to have none
}

// keptOrder is an order that is kept. It is not changed but for dropped.
type keptOrder struct {
	order   *order.Unfinished
	saved   *order.Unfinished // what the Cache has of it, or nil
	apart   bool              // the Cache's entry is left alone
	named   bool              // no stranger made its host up
	dropped atomic.Bool       // it is no longer wanted, which its conversation may not know
}

// get returns the order that an earlier attempt did not finish, or nil.
func (u *unfinishedOrders) get(sub subject) *keptOrder {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, _ := u.orders.Get(sub)
	return o
}

// put remembers an order for the next attempt, or with nil forgets it. If there
// are too many, another one is evicted, at the cost of one more order if the
// Cache does not have it.
func (u *unfinishedOrders) put(sub subject, o *keptOrder) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o == nil {
		u.orders.Delete(sub)
		return
	}
	u.orders.Max, u.orders.MaxMinor = maxUnfinished, maxUnfinished
	u.orders.IsMinor = func(o *keptOrder) bool { return !o.named }
	// Those whose certificate may have been issued make way last.
	u.orders.Put(sub, o, func(a, b *keptOrder) bool { return a.order.Key == nil && b.order.Key != nil })
}

// replace changes what is known of an order that is there. It reports whether it
// did.
func (u *unfinishedOrders) replace(sub subject, old, now *keptOrder) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o, _ := u.orders.Get(sub); o == nil || o != old {
		return false
	}
	u.orders.Put(sub, now, nil)
	return true
}

// drop forgets an order that is no longer wanted.
func (u *unfinishedOrders) drop(sub subject) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o, ok := u.orders.Get(sub); ok {
		o.dropped.Store(true)
		u.orders.Delete(sub)
	}
}

// noteNone notes that there is no order of a subject, neither here nor in the Cache.
func (u *unfinishedOrders) noteNone(sub subject, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.none.Max = maxUnfinished
	u.none.Put(sub, now, time.Time.Before)
}

// hadNone reports whether that was noted a moment ago, and still holds here.
func (u *unfinishedOrders) hadNone(sub subject, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, noted := u.none.Get(sub)
	_, has := u.orders.Get(sub)
	return noted && !has && now.Sub(at).Abs() < rereadEvery
}

func (u *unfinishedOrders) has(sub subject) bool { return u.get(sub) != nil }

// hosts returns the hosts with an order.
func (u *unfinishedOrders) hosts() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var hosts []string
	for sub := range u.orders.All() {
		hosts = append(hosts, sub.host())
	}
	return hosts
}
