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

// The last of the default waits is a 90th part of a certificate's lifetime.
func TestBackoffOfRenewalFollowsTheLifetime(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		lifetime time.Duration
		failures int
		want     time.Duration
	}{
		{398 * day, 100, day},
		{90 * day, 100, day},
		{64 * day, 100, 64 * day / 90},
		{45 * day, 100, 12 * time.Hour},
		{160 * time.Hour, 100, 160 * time.Hour / 90},
		{10 * time.Hour, 100, time.Hour},
		{-day, 100, time.Hour}, // dates may be swapped
		{160 * time.Hour, 1, time.Minute},
		{160 * time.Hour, 3, time.Hour},
	} {
		for range 50 {
			if d := BackoffOfRenewal(nil, tt.failures, tt.lifetime); d < tt.want*89/100 || d > tt.want*111/100 {
				t.Errorf("%v, failure %d: %v, want %v and 10%%", tt.lifetime, tt.failures, d, tt.want)
			}
		}
	}
	if d := BackoffOfRenewal([]time.Duration{48 * time.Hour}, 5, 160*time.Hour); d < 43*time.Hour {
		t.Errorf("what the user sets is %v", d)
	}
}

func TestJitterOfTinyWaits(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 1, 4} {
		if got := Jitter(d); got != d {
			t.Errorf("Jitter(%d) = %d, want it as it is", d, got)
		}
	}
}
