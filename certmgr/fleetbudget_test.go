package certmgr_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// budgetFleet returns three Managers that share a store with locks and have an order
// budget.
func (w *world) budgetFleet(orders int) []*certmgr.Manager {
	_, machines := w.fleet()
	for _, m := range machines {
		m.OrderBudget = orders
		m.Hosts = certmgr.MustAllowlist("*.example.com")
	}
	return machines
}

// New hosts come to all machines in the same minute. Together they place no more
// orders than the account has, but for those that they do not tell each other of.
func TestFleetSharesTheOrderBudget(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		const orders, hosts, unshared = 60, 60, 10
		machines := w.budgetFleet(orders)
		w.cache.get(func(context.Context, string) error { time.Sleep(5 * time.Millisecond); return nil })
		var wg sync.WaitGroup
		for i, m := range machines {
			defer m.Close()
			wg.Go(func() {
				for n := range hosts {
					// The error of a host for which no order is left.
					_ = m.Obtain(t.Context(), fmt.Sprintf("%c%d.example.com", 'a'+i, n))
				}
			})
		}
		wg.Wait()
		n := len(w.ca.Orders())
		if most := orders + len(machines)*unshared; n > most {
			t.Errorf("%d orders, want %d at most", n, most)
		}
		if n < orders-unshared {
			t.Errorf("%d orders of %d", n, orders)
		}
	})
}

// A budget that cannot be shared is counted here, and orders go on.
func TestFleetOrdersWhileTheBudgetCannotBeShared(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		machines := w.budgetFleet(100)
		w.cache.put(func(_ context.Context, key string) error {
			if strings.HasSuffix(key, "+orders") {
				return errStoreDown
			}
			return nil
		})
		m := machines[0]
		for n := range 40 {
			if err := m.Obtain(t.Context(), fmt.Sprintf("a%d.example.com", n)); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range machines {
			m.Close()
		}
	})
}
