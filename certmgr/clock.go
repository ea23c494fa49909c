package certmgr

import "time"

// clock says what goes by which clock. Each rule about time goes by one of the
// two, and none is set by one and judged by the other.
//
//   - The wall clock, now, is for appointments, and for what is stored, shown,
//     or compared with the CA, a certificate or another process: backoff, the
//     breaker, renewals, questions about them, the policy's TTL, visits. It goes
//     on while the machine is suspended, and it can be set. Forward is like a
//     suspended machine: what is due is done at once. Back must not prolong a
//     wait; pace.Wait sees to that, and dispatcher for the schedule.
//   - The monotonic clock is for time-outs, pauses and durations within this
//     process: timers, contexts, time.Now with time.Since. It cannot be set, and
//     may stand still while the machine is suspended.
type clock struct {
	// now has no monotonic reading: with one, Before, After and Sub would go by
	// that, and disagree with what was stored and shown.
	now func() time.Time
}

// newClock returns the clock of a Manager. A wall that is nil is the system's.
func newClock(wall func() time.Time) clock {
	if wall == nil {
		wall = time.Now
	}
	return clock{now: func() time.Time { return wall().Round(0) }}
}
