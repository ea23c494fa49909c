package pace

import (
	"testing"
	"time"
)

// wantWithin checks that many values of f are within some percent of want, and
// make use of most of that.
func wantWithin(t *testing.T, name string, want time.Duration, percent int, f func() time.Duration) {
	t.Helper()
	spread := want * time.Duration(percent) / 100
	least, most := f(), f()
	for range 1000 {
		d := f()
		least, most = min(least, d), max(most, d)
	}
	if least < want-spread || most > want+spread {
		t.Errorf("%s: from %v to %v, want %v and %d%% at most", name, least, most, want, percent)
	}
	if most-least < spread {
		t.Errorf("%s: from %v to %v, want more jitter", name, least, most)
	}
}

func TestProbesGetRarerAsTheOutageLasts(t *testing.T) {
	tests := []struct{ outage, want time.Duration }{
		{-time.Hour, 5 * time.Second}, // a clock that was set back
		{0, 5 * time.Second},
		{2*time.Minute - 1, 5 * time.Second},
		{2 * time.Minute, 30 * time.Second},
		{15*time.Minute - 1, 30 * time.Second},
		{15 * time.Minute, 5 * time.Minute},
		{1000 * time.Hour, 5 * time.Minute},
	}
	for _, tt := range tests {
		wantWithin(t, "after "+tt.outage.String(), tt.want, 30, func() time.Duration { return ProbeWait(tt.outage) })
	}
}

func TestOrdersGetRarerAsTheyFail(t *testing.T) {
	for failures, seconds := range []time.Duration{5, 5, 15, 45, 60, 60} {
		for _, outage := range []time.Duration{0, 15*time.Minute - 1} {
			wantWithin(t, outage.String(), seconds*time.Second, 10, func() time.Duration { return OutageWait(failures, outage) })
		}
		wantWithin(t, "after 15 min", 5*time.Minute, 10, func() time.Duration { return OutageWait(failures, 15*time.Minute) })
	}
}

func TestRefusalsAreRepeatedAfterMinutes(t *testing.T) {
	for failures, minutes := range []time.Duration{1, 1, 5, 5, 15, 15} {
		wantWithin(t, "refusal", minutes*time.Minute, 10, func() time.Duration { return RefusalWait(failures) })
	}
}

// What took long is not tried that much later, but never at once.
func TestNextCountsFromTheBeginning(t *testing.T) {
	tests := []struct{ took, wait, want time.Duration }{
		{0, 10 * time.Second, 10 * time.Second},
		{3 * time.Second, 10 * time.Second, 7 * time.Second},
		{9500 * time.Millisecond, 10 * time.Second, time.Second},
		{time.Minute, 10 * time.Second, time.Second},
		{-time.Hour, 10 * time.Second, 10 * time.Second},
	}
	for _, tt := range tests {
		if got := Next(newYear, tt.took, tt.wait).Sub(newYear); got != tt.want {
			t.Errorf("after an attempt of %v: %v, want %v", tt.took, got, tt.want)
		}
	}
}
