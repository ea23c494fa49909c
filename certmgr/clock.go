package certmgr

import (
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// clock holds the two clocks of a Manager. Each rule about time goes by one of
// them, and none is set by one and judged by the other.
//
//   - The wall clock, now, is for appointments, and for what is stored, shown,
//     or compared with the CA, a certificate or another process: backoff, the
//     breaker, renewals, questions about them, the policy's TTL, visits. It goes
//     on while the machine is suspended, and it can be set. Forward is like a
//     suspended machine: what is due is done at once. Back must not prolong a
//     wait; pace.Wait sees to that, and dispatcher for the schedule.
//   - The monotonic clock is for rates, and for time-outs, pauses and durations
//     within this process: ran, timers, contexts, time.Now with time.Since. It
//     cannot be set, and may stand still while the machine is suspended.
//
// A process that was frozen finds both ahead and everything due at once. Rates
// keep that apart: see maxLate.
type clock struct {
	// now has no monotonic reading: with one, Before, After and Sub would go by
	// that, and disagree with what was stored and shown.
	now func() time.Time

	began time.Time // with a monotonic reading
}

// newClock returns the clocks of a Manager. A wall that is nil is the system's.
func newClock(wall func() time.Time) clock {
	if wall == nil {
		wall = time.Now
	}
	return clock{now: func() time.Time { return wall().Round(0) }, began: time.Now()}
}

// ran returns the time since the start by the monotonic clock.
func (c *clock) ran() time.Duration { return time.Since(c.began) }

// clockWatch notices that the wall clock was set since it was last looked at.
// The zero value was not looked at yet. It is not safe for concurrent use.
type clockWatch struct {
	wall time.Time
	mono time.Time // the same moment by the monotonic clock
}

// look returns how far the wall clock, which says now, was moved since the last
// look: back if that is negative. Forward may be a suspended machine.
func (w *clockWatch) look(now time.Time) (moved time.Duration) {
	mono := time.Now()
	if !w.mono.IsZero() {
		moved = now.Sub(w.wall) - mono.Sub(w.mono)
	}
	w.wall, w.mono = now, mono
	return moved
}

// clockError is about a clock that does not fit a new certificate.
func clockError(host string, cert *certificate, now time.Time) error {
	return newClockError(host, cert, now, "set the clock")
}

// datesError is clockError if the certificate does not fit the CA's clock either.
func datesError(host string, cert *certificate, now time.Time) error {
	return newClockError(host, cert, now, "by the CA's own clock that is wrong too: the CA has to correct its dates")
}

func newClockError(host string, cert *certificate, now time.Time, what string) error {
	return &refusal{kind: ErrClock, host: host, text: fmt.Sprintf("it says %s, but the CA has just issued a certificate valid from %s to %s; "+
		"%s; the certificate is kept", text.Stamp(now), text.Stamp(cert.notBefore), text.Stamp(cert.notAfter), what)}
}
