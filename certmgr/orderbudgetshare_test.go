package certmgr_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// Machines that share a Cache share the budget.
func TestMachinesShareAnOrderBudget(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		machines := []*certmgr.Manager{w.m, w.manager()}
		defer machines[1].Close()
		hosts := []string{"a.example.com", "b.example.com"}
		for i, m := range machines {
			m.OrderBudget = 300
			w.ca.Resolve(hosts[i], acmetest.Target{TLSConfig: m.TLSConfig()})
		}
		var wg sync.WaitGroup
		for i, m := range machines {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Second)
				for range 50 {
					if err := m.Renew(t.Context(), hosts[i]); err != nil {
						t.Errorf("machine %d: %v", i, err)
					}
					time.Sleep(10 * time.Second)
				}
			})
		}
		wg.Wait()
		for i, m := range machines {
			if left := m.Snapshot().OrdersLeft; left < 200 || left > 225 { // 500 s give back 13
				t.Errorf("machine %d: %d orders left, want 214 or so", i, left)
			}
		}
	})
}

// A clock that is set, or that of another machine, neither empties the budget nor
// fills it, but once.
func TestOrderBudgetAndTheClock(t *testing.T) {
	t.Parallel()
	for _, moved := range []time.Duration{-365 * day, -time.Hour, time.Hour, 365 * day} {
		t.Run(moved.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var off atomic.Int64
				certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
				w.m.OrderBudget = 300
				other := w.manager()
				defer other.Close()
				other.OrderBudget = 300
				w.ca.Resolve("b.example.com", acmetest.Target{TLSConfig: other.TLSConfig()})
				renew := func(n int) {
					for range n {
						w.ca.SetClockSkew(time.Duration(off.Load()))
						w.m.Renew(t.Context(), "a.example.com")
						w.ca.SetClockSkew(0)
						other.Renew(t.Context(), "b.example.com")
						time.Sleep(time.Minute + time.Second)
					}
				}
				renew(5)
				off.Store(int64(moved))
				renew(50)
				for i, m := range []*certmgr.Manager{w.m, other} {
					if left := m.Snapshot().OrdersLeft; left < 260 || left > 285 { // 110 placed, 93 came back
						t.Errorf("machine %d: %d orders left", i, left)
					}
				}
			})
		})
	}
}
