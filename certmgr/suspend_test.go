package certmgr_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/cases"
	"github.com/nostall/nostall/internal/pace"
)

// B25: the wall clock continues while a machine is suspended, and is set
// forward on a board without a battery, but monotonic readings and timers stand
// still (cert-manager/cert-manager#8464, istio/ztunnel#1481,
// smallstep/certificates#10, taskcluster/taskcluster#5269, golang/go#24595).
// Afterwards nothing may spin, nothing overdue may wait for long, and pacing
// must be kept.

// suspended returns what time.Now returns after a machine was suspended for d:
// the wall clock is d ahead of the bubble's, the monotonic reading is not.
//
// Only unsafe can make such a time. A bubble's clock has no monotonic reading,
// and the methods of time.Time move both readings by the same amount.
// TestSuspendedClockIsAMachinesOwn checks the layout.
func suspended(d time.Duration) time.Time {
	// Seconds from year 1 to 1970, and to 1885, from which a time with a monotonic reading counts.
	const (
		toUnix = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
		toWall = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400
	)
	now := time.Now()
	t := now.Add(d)
	fields := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	fields.wall = 1<<63 | uint64(t.Unix()+toUnix-toWall)<<30 | uint64(t.Nanosecond())
	fields.ext = int64(now.Sub(time.Unix(0, 0)))
	return t
}

func TestSuspendedClockIsAMachinesOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *world) {
		before, wall := suspended(0), time.Now()
		time.Sleep(time.Second)
		after := suspended(time.Hour)
		if !before.Round(0).Equal(wall) {
			t.Errorf("the wall clock says %v, want %v", before.Round(0), wall)
		}
		if d := after.Sub(before); d != time.Second {
			t.Errorf("%v passed by the monotonic clock, want 1s", d)
		}
		if d := after.Round(0).Sub(before.Round(0)); d != time.Hour+time.Second {
			t.Errorf("%v passed by the wall clock, want 1h0m1s", d)
		}
	})
}

// A sleeper is the clock of a machine that can be suspended.
type sleeper struct {
	frozen atomic.Bool // the process is stopped, and not the machine: readings of both kinds go on
	slept  atomic.Int64

	instant atomic.Int64 // the bubble's time at the last reading
	reads   atomic.Int64 // readings at that time
	spun    atomic.Bool
}

// maxReadings is how often the clock may be read while no time passes. In a busy loop
// it would never pass: the sleep is undone then, so that the loop ends.
const maxReadings = 10_000

func (s *sleeper) now() time.Time {
	now := time.Now()
	if s.instant.Swap(now.UnixNano()) != now.UnixNano() {
		s.reads.Store(0)
	}
	if s.reads.Add(1) > maxReadings && s.slept.Swap(0) != 0 {
		s.spun.Store(true)
	}
	slept := time.Duration(s.slept.Load())
	if s.frozen.Load() {
		return now.Add(slept)
	}
	return suspended(slept)
}

// suspend puts the machine to sleep, but not the CA.
func (s *sleeper) suspend(ca *acmetest.Server, d time.Duration) {
	ca.SetClockSkew(d)
	s.slept.Store(int64(d))
}

// wait lets time pass, and ends the case if something span meanwhile.
func (s *sleeper) wait(t *cases.T, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	if s.spun.Load() {
		t.Fatalf("the clock was read more than %d times while no time passed: something spins", maxReadings)
	}
}

// soon waits for what is overdue when the machine wakes up.
func (s *sleeper) soon(t *cases.T, done func() bool) {
	t.Helper()
	for minute := range 30 { // longer than it may take, to see whether something spins meanwhile
		if s.wait(t, time.Minute); done() {
			break
		}
		if minute == 5 {
			t.Error("6 minutes after the machine woke up nothing has happened")
		}
	}
}

// suspendCase runs f with a Manager whose clock can be suspended.
func suspendCase(t *cases.T, f func(t *cases.T, w *world, clock *sleeper)) {
	t.Helper()
	t.Bubble(func(t *cases.T) {
		w, clock := newWorld(t.T), new(sleeper)
		defer w.close()
		certmgr.SetClock(w.m, clock.now)
		f(t, w, clock)
	})
}

// untilEvents waits until there are n events of a kind.
func (w *world) untilEvents(kind audit.Kind, n int, step time.Duration) {
	for len(w.events.of(kind)) < n {
		time.Sleep(step)
	}
}

// A host of Start fails, the machine sleeps, and nothing is wrong in the morning.
func TestFirstIssuanceAfterSuspend(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{1, 2, 3, 30} {
		table.Run(t, fmt.Sprintf("B25/first issuance after %d failures", failures), func(t *cases.T) {
			suspendCase(t, func(t *cases.T, w *world, clock *sleeper) {
				w.m.Hosts.Replace("a.example.com")
				fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.untilEvents(audit.IssuanceFailed, failures, 10*time.Second)
				fault.Lift()
				clock.suspend(w.ca, 2*day)
				clock.soon(t, func() bool { _, err := w.get("a.example.com"); return err == nil })
			})
		})
	}
}

// The same for a renewal, which no handshake triggers.
func TestRenewalAfterSuspend(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{2, 5, 30} {
		table.Run(t, fmt.Sprintf("B25/renewal after %d failures", failures), func(t *cases.T) {
			suspendCase(t, func(t *cases.T, w *world, clock *sleeper) {
				if _, err := w.get("a.example.com"); err != nil {
					t.Fatal(err)
				}
				fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "connection"})
				w.untilEvents(audit.IssuanceFailed, failures, time.Minute)
				fault.Lift()
				clock.suspend(w.ca, 2*day)
				before := w.orders("a.example.com")
				clock.soon(t, func() bool { return w.orders("a.example.com") > before })
			})
		})
	}
}

// The same for the breaker of a CA that was out of reach.
func TestBreakerAfterSuspend(t *testing.T) {
	for _, failures := range []int{1, 2, 5} {
		table.Run(t, fmt.Sprintf("B25/outage after %d failures", failures), func(t *cases.T) {
			suspendCase(t, func(t *cases.T, w *world, clock *sleeper) {
				fault := w.ca.Drop(acmetest.Match{})
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.untilEvents(audit.CAUnavailable, failures, time.Second)
				fault.Lift()
				clock.suspend(w.ca, day/2)
				clock.soon(t, func() bool { _, err := w.get("a.example.com"); return err == nil })
			})
		})
	}
}

// The first certificates of many hosts keep the pace of Start although all of them
// are due after the sleep. Let's Encrypt allows 300 orders in 3 hours.
func TestPaceOfStartAfterSuspend(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"suspended machine", "frozen process"} {
		table.Run(t, "B25/pace, "+kind, func(t *cases.T) {
			suspendCase(t, func(t *cases.T, w *world, clock *sleeper) {
				clock.frozen.Store(kind == "frozen process")
				hosts := make([]string, 2*pace.OrderBurst+20)
				for i := range hosts {
					hosts[i] = fmt.Sprintf("www.example%d.com", i)
				}
				w.m.Hosts.Replace(hosts...)
				if err := w.m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				clock.wait(t, time.Minute)
				before := w.ca.Count(acmetest.NewOrder)
				clock.suspend(w.ca, day)
				const later = 5 * time.Minute
				clock.wait(t, later)
				most := pace.OrderBurst + int(later/pace.OrderEvery) + 1
				if n := w.ca.Count(acmetest.NewOrder) - before; n > most {
					t.Errorf("%d orders in the %v after the machine woke up, want at most %d", n, later, most)
				}
			})
		})
	}
}

// A machine that was suspended for a week renews what is due when it resumes.
func TestMachineThatSleptRenewsWhatIsDue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
		cert := w.mustGet("a.example.com")
		time.Sleep(55 * day)
		skew.Store(int64(7 * day)) // the bubble's timers do not know of that
		w.ca.SetClockSkew(7 * day)
		time.Sleep(maxTimer + time.Minute)
		if w.mustGet("a.example.com").Leaf.Equal(cert.Leaf) {
			t.Error("not renewed although it was due during the sleep")
		}
	})
}
