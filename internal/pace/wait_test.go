package pace

import (
	"testing"
	"time"
)

// A wait goes by the wall clock. A clock that is set back does not prolong it.
func TestWaitFollowsTheClock(t *testing.T) {
	const long = 10 * time.Minute
	began := Wait{newYear, newYear.Add(long)}
	for _, tt := range []struct {
		name string
		set  time.Duration // where the clock is, from the beginning of the wait
		left time.Duration
	}{
		{"just begun", 0, long},
		{"half over", 5 * time.Minute, 5 * time.Minute},
		{"over", long, 0},
		{"suspended or put forward", 365 * 24 * time.Hour, long - 365*24*time.Hour},
		{"read before it began", -tolerance, long + tolerance},
		{"set back a little", -time.Minute, long},
		{"set back a year", -365 * 24 * time.Hour, long},
	} {
		now := newYear.Add(tt.set)
		w := began.At(now)
		if left := w.Until.Sub(now); left != tt.left || w.IsOver(now) != (tt.left <= 0) {
			t.Errorf("%s: %v left, over %v, want %v left", tt.name, left, w.IsOver(now), tt.left)
		}
		if again := w.At(now.Add(tt.left)); again != w || !again.IsOver(now.Add(tt.left)) {
			t.Errorf("%s: it does not end in time: %v", tt.name, again)
		}
	}
}
