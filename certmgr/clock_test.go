package certmgr_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A clock that is wrong: the certificate is kept, the clock is named, nothing
// is ordered again.
func TestWrongClockIsNamedAndOrdersNothingAgain(t *testing.T) {
	for name, off := range map[string]time.Duration{"a year behind": -365 * day, "a year ahead": 365 * day} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var wrong atomic.Int64
				wrong.Store(int64(off))
				clock := func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
				certmgr.SetClock(w.m, clock)
				_, err := w.get("a.example.com")
				if off < 0 && err != nil {
					t.Errorf("behind, it can be served: %v", err)
				}
				if off > 0 && !errors.Is(err, certmgr.ErrClock) {
					t.Errorf("got %v, want ErrClock", err)
				}
				if e := w.events.of(audit.ClockOff); len(e) != 1 {
					t.Errorf("events: %v", e)
				}
				for range 10 {
					time.Sleep(day)
					w.get("a.example.com")
				}
				w.wantOrders("a.example.com", 1)
				w.m.Close()
				w.m = w.manager()
				certmgr.SetClock(w.m, clock)
				w.reach()
				time.Sleep(time.Hour)
				w.get("a.example.com")
				w.wantOrders("a.example.com", 1) // nor after a restart
				wrong.Store(0)
				time.Sleep(10 * time.Second)
				w.get("a.example.com") // has the cache looked at again
				synctest.Wait()
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}

// The record of a machine whose clock was ahead holds no machine back that has the
// right time.
func TestClockOffIsForgottenByHealthyMachines(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(365 * day) })
		_, err := w.get("a.example.com")
		t.Log(err)
		time.Sleep(time.Second)
		w.m.Close()
		time.Sleep(100 * day) // its certificate really is over
		w.m = w.manager()     // a machine with the right clock
		w.reach()
		w.mustGet("a.example.com")
	})
}

// A clock that is ahead by nearly the lifetime of a certificate does not order again
// and again.
func TestClockNearlyALifetimeAheadOrdersLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(89 * day) })
		w.get("a.example.com")
		time.Sleep(7 * day)
		if n := w.orders("a.example.com"); n > 5 {
			t.Errorf("%d orders in 7 days (the CA allows 5), %d clock_off events", n, len(w.events.of(audit.ClockOff)))
		}
	})
}

// What was planned by a clock that was ahead holds nothing back once it is right again.
func TestClockThatWasAheadHoldsNothingBack(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{60 * day, 20 * day} {
		t.Run(ahead.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var skew atomic.Int64
				certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
				first := w.mustGet("a.example.com")
				time.Sleep(50 * day)
				skew.Store(int64(ahead))
				fault := w.ca.Drop(acmetest.Match{}) // TLS to the CA fails with such a clock
				time.Sleep(2 * time.Hour)
				skew.Store(0)
				fault.Lift()
				time.Sleep(time.Hour)
				if _, err := w.get("b.example.com"); err != nil {
					t.Errorf("a new host cannot be issued for, an hour after the clock was set right: %v", err)
				}
				asked := w.asks()
				time.Sleep(10 * day)
				if n := w.asks() - asked; n < 15 {
					t.Errorf("the CA was asked %d times in 10 days", n)
				}
				time.Sleep(20 * day)
				if cert, err := w.get("a.example.com"); err != nil || cert.Leaf.Equal(first.Leaf) {
					t.Errorf("not renewed 10 days before its end: %v %v", err, w.m.Snapshot().Hosts[0])
				}
			})
		})
	}
}

// A question that meets a certificate which looks expired, since the clock is ahead,
// is not the last one.
func TestQuestionsGoOnAfterAClockThatWasAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
		w.mustGet("a.example.com")
		time.Sleep(10 * day)
		fault := w.ca.Drop(acmetest.Match{Endpoint: acmetest.NewOrder})
		skew.Store(int64(85 * day))
		time.Sleep(20 * time.Minute)
		skew.Store(0)
		fault.Lift()
		time.Sleep(day)
		asked := w.asks()
		time.Sleep(5 * day)
		if n := w.asks() - asked; n < 10 {
			t.Errorf("the CA was asked %d times in 5 days", n)
		}
	})
}
