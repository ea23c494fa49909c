package pace

import (
	"testing"
	"time"
)

func TestBackoffGrowsOrFollowsItsWaits(t *testing.T) {
	set := []time.Duration{time.Minute, 0, time.Hour}
	tests := []struct {
		name     string
		waits    []time.Duration
		failures int
		want     time.Duration
	}{
		{"default, first", nil, 1, time.Minute},
		{"default, second", nil, 2, 10 * time.Minute},
		{"default, third", nil, 3, time.Hour},
		{"default, after a day", nil, 27, 24 * time.Hour},
		{"set, none yet", set, 0, time.Minute},
		{"set, first", set, 1, time.Minute},
		{"set, too short", set, 2, minBackoff},
		{"set, last", set, 3, time.Hour},
		{"set, beyond", set, 1000, time.Hour},
	}
	for _, tt := range tests {
		for range 50 {
			if d := Backoff(tt.waits, tt.failures); d < tt.want*9/10 || d > tt.want*11/10 {
				t.Errorf("%s: %v, want %v and 10%%", tt.name, d, tt.want)
			}
		}
	}
}

func TestJitterOfTinyWaits(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 1, 4} {
		if got := Jitter(d); got != d {
			t.Errorf("Jitter(%d) = %d, want it as it is", d, got)
		}
	}
}
