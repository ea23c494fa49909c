package certmgr

import (
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

// What strangers cause displaces nothing of hosts on the list, and is bounded. The
// numbers are written out.
func TestStrangersDisplaceNothingOfTheList(t *testing.T) {
	t.Parallel()
	named := func(i int) subject { return newSubject(bundle.ECDSA, "ca", fmt.Sprintf("h%d.example.com", i)) }
	stranger := func(i int) subject {
		return newSubject(bundle.ECDSA, "ca", fmt.Sprintf("n%d.stranger.com", i))
	}
	t.Run("unfinished orders", func(t *testing.T) {
		var u unfinishedOrders
		for i := range 1000 {
			u.put(named(i), &keptOrder{order: new(order.Unfinished), named: true})
		}
		for i := range 3000 {
			u.put(stranger(i), &keptOrder{order: &order.Unfinished{Key: testKey()}})
		}
		for i := range 1000 {
			if !u.has(named(i)) {
				t.Fatalf("the order of %v made way for a stranger's", named(i))
			}
		}
		if n := u.orders.Minor(); n != 1000 {
			t.Errorf("%d orders of strangers, want 1,000", n)
		}
	})
	t.Run("hosts that wait for the CA", func(t *testing.T) {
		w := newWaiting()
		w.add(issueRequest{sub: named(0), grant: grant{trust: listed}, priority: background}, time.Now())
		for i := range 300 {
			w.add(issueRequest{sub: stranger(i), grant: grant{trust: byPolicy}, priority: withVisitor}, time.Now())
		}
		if _, ok := w.waiters.Get(named(0)); !ok || w.waiters.Len() != 64 {
			t.Errorf("of 64 places %d are taken, by the host on the list: %v", w.waiters.Len(), ok)
		}
	})
	t.Run("failures of the CA", func(t *testing.T) {
		b := newBreaker("ca", nil, time.Now)
		for i := range 3000 {
			b.isOneOfMany(evidence{host: stranger(i).host(), what: troubleCA})
		}
		if n := b.recent.Len(); n != 1000 {
			t.Errorf("%d failures are remembered, want 1,000", n)
		}
	})
}
