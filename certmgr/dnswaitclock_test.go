package certmgr_test

import (
	"testing"
	"time"

	"github.com/nostall/nostall/internal/cases"
)

// However the clock moves, a name that waits for DNS is probed soon after, and at its
// pace: it is ordered within the hour.
func TestWaitForDNSAfterTheClockMoved(t *testing.T) {
	eachClockMove(t, "a name that waits for DNS", func(t *cases.T, w *world, clock *sleeper, m clockMove) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		time.Sleep(3 * time.Hour)
		p.take()
		m.apply(clock, w.ca)
		time.Sleep(2 * time.Hour)
		if n := len(p.take()); n < 1 || n > 26 {
			t.Errorf("%d probes in two hours", n)
		}
		w.leadsHere(p)
		time.Sleep(time.Hour + 10*time.Minute)
		w.mustGet("a.example.com")
	})
}
