package certmgr_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/cases"
	"github.com/nostall/nostall/internal/pace"
)

// A clockMove is something that happens to the clocks of a machine, but not to its
// timers, and not to those of the bubble.
type clockMove struct {
	name   string
	wall   time.Duration // by how much the wall clock moves
	frozen bool          // the monotonic clock moves too: the process was stopped
	passed bool          // the time has passed, for the CA too
}

func clockMoves() []clockMove {
	return []clockMove{
		{"suspended for 8 h", day / 3, false, true},
		{"suspended for 3 d", 3 * day, false, true},
		{"frozen for an hour", time.Hour, true, true},
		{"frozen for 3 d", 3 * day, true, true},
		{"put forward 30 min", time.Hour / 2, false, false},
		{"put forward a day", day, false, false},
		{"set back 50 s", -50 * time.Second, false, false},
		{"set back 2 h", -2 * time.Hour, false, false},
		{"set back a year", -365 * day, false, false},
	}
}

// apply moves the clocks.
func (m clockMove) apply(clock *sleeper, ca *acmetest.Server) {
	clock.frozen.Store(m.frozen)
	if m.passed {
		ca.SetClockSkew(m.wall)
	}
	clock.slept.Store(int64(m.wall))
}

// eachClockMove runs f for each clockMove.
func eachClockMove(t *testing.T, what string, f func(t *cases.T, w *world, clock *sleeper, m clockMove)) {
	t.Helper()
	for i, m := range clockMoves() {
		if !runsRow(i+len(what), 3) {
			continue
		}
		table.Run(t, "B25/"+what+", "+m.name, func(t *cases.T) {
			suspendCase(t, func(t *cases.T, w *world, clock *sleeper) { f(t, w, clock, m) })
		})
	}
}

// within waits until done, and reports an error if that takes too long.
func (s *sleeper) within(t *cases.T, limit time.Duration, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); s.wait(t, 10*time.Second) {
		if time.Since(began) > limit {
			t.Fatalf("nothing has happened in %v", limit)
		}
	}
}

// patienceAfter is how long a wait of d may still last after m: it is over when its
// time has passed, and a clock that was set back makes it begin again at most.
func (m clockMove) patienceAfter(d time.Duration) time.Duration {
	if m.wall > d*11/10 {
		return maxTimer + time.Minute
	}
	return d*11/10 + 2*maxTimer
}

// A host that fails, with visitors: its first certificate comes when its backoff is
// over. Nothing but the visitors notices the clock, as nothing is planned.
func TestVisitorsAfterTheClockMoved(t *testing.T) {
	eachClockMove(t, "visitors", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
		for len(w.events.of(audit.IssuanceFailed)) < 3 {
			w.get("a.example.com")
			time.Sleep(time.Minute)
		}
		fault.Lift()
		m.apply(clock, w.ca)
		clock.within(t, m.patienceAfter(pace.DefaultBackoff(3)), func() bool { _, err := w.get("a.example.com"); return err == nil })
	})
}

// A renewal that fails is tried again in time, and not more often.
func TestFailingRenewalAfterTheClockMoved(t *testing.T) {
	t.Parallel()
	eachClockMove(t, "failing renewal", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		if _, err := w.get("a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
		w.untilEvents(audit.IssuanceFailed, 4, time.Minute)
		before := len(w.events.of(audit.IssuanceFailed))
		m.apply(clock, w.ca)
		clock.within(t, m.patienceAfter(pace.DefaultBackoff(4)), func() bool { return len(w.events.of(audit.IssuanceFailed)) > before })
		clock.wait(t, day/2)
		if n := len(w.events.of(audit.IssuanceFailed)) - before; n < 8 || n > 15 {
			t.Errorf("%d attempts in the half day that follows, want one an hour", n)
		}
	})
}

// A host of Start gets its certificate after an outage of the CA, whose last wait was
// at most a quarter of an hour.
func TestStartAfterTheClockMoved(t *testing.T) {
	eachClockMove(t, "outage", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		fault := w.ca.Drop(acmetest.Match{})
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		clock.wait(t, 30*time.Minute)
		fault.Lift()
		m.apply(clock, w.ca)
		clock.within(t, m.patienceAfter(15*time.Minute), func() bool { _, err := w.get("a.example.com"); return err == nil })
	})
}

// The pace of Start holds whatever happens to the clock, also if it happens again and
// again, and Start goes on. Let's Encrypt allows 300 orders in 3 hours.
func TestPaceOfStartWhileTheClockMoves(t *testing.T) {
	t.Parallel()
	eachClockMove(t, "pace", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		if m.wall.Abs() < day {
			return // the others show more
		}
		hosts := make([]string, pace.OrderBurst+100)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("www.example%d.com", i)
		}
		w.m.Hosts.Replace(hosts...)
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		const moves, every = 4, 10 * time.Minute
		for i := range moves {
			clock.wait(t, every)
			if i%2 == 0 {
				m.apply(clock, w.ca)
			} else {
				clockMove{}.apply(clock, w.ca) // and back
			}
		}
		paced := int(moves * every / pace.OrderEvery)
		if n := w.ca.Count(acmetest.NewOrder); n < pace.OrderBurst+paced/2 || n > pace.OrderBurst+paced+1 {
			t.Errorf("%d orders in %v, want %d", n, moves*every, pace.OrderBurst+paced)
		}
	})
}

// Questions about renewal go on, at their own pace.
func TestQuestionsAfterTheClockMoved(t *testing.T) {
	eachClockMove(t, "questions", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		if _, err := w.get("a.example.com"); err != nil {
			t.Fatal(err)
		}
		clock.wait(t, day)
		m.apply(clock, w.ca)
		asked := w.asks()
		clock.wait(t, 2*day)
		if n := w.asks() - asked; n < 7 || n > 10 {
			t.Errorf("the CA was asked %d times in two days, want every 6 hours", n)
		}
	})
}

// A policy is asked again when its answer has become old, and the host is served.
func TestPolicyAfterTheClockMoved(t *testing.T) {
	eachClockMove(t, "policy", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		var asked atomic.Int64
		w.m.Hosts = nil
		w.m.HostPolicy = func(context.Context, string) error { asked.Add(1); return nil }
		visit := func() {
			if _, err := w.get("a.example.com"); err != nil {
				t.Fatal(err)
			}
		}
		visit()
		m.apply(clock, w.ca)
		before := asked.Load()
		for range 60 {
			visit()
			clock.wait(t, 10*time.Second)
		}
		if n := asked.Load() - before; n < 8 || n > 11 {
			t.Errorf("asked %d times in 10 minutes of visits, want once a minute", n)
		}
	})
}
