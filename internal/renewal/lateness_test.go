package renewal

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// Each mark is reported once, when it is reached. If several have passed, only
// the last is reported.
func TestLatenessGrowsLouder(t *testing.T) {
	tests := []struct {
		name string
		left time.Duration // at the first failure
		step time.Duration // between two checks
		want []time.Duration
	}{
		{"30 days", 30 * day, time.Hour, []time.Duration{15 * day, 7 * day, day, 0}},
		{"10 days", 10 * day, time.Hour, []time.Duration{5 * day, day, 0}},
		{"2 days", 2 * day, time.Hour, []time.Duration{day, 0}},
		{"an hour", time.Hour, time.Minute, []time.Duration{30 * time.Minute, 0}},
		{"looked at rarely", 30 * day, 20 * day, []time.Duration{10 * day, -10 * day}},
	}
	for _, tt := range tests {
		var l Lateness
		end := newYear.Add(tt.left)
		if next, ok := l.Failed(end, errors.New("no answer"), newYear); !ok || !next.Equal(end.Add(1-tt.left/2)) {
			t.Errorf("%s: first to be reported at %v, want half of %v before the end", tt.name, next, tt.left)
		}
		var got []time.Duration
		for now := newYear; now.Before(end.Add(15 * day)); now = now.Add(tt.step) {
			if l.Pass(end, now.Add(1)) {
				got = append(got, end.Sub(now))
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: reported with %v left, want %v", tt.name, got, tt.want)
		}
		if _, ok := l.Failed(end, nil, end); ok {
			t.Errorf("%s: there is more to be reported", tt.name)
		}
	}
}

// A certificate whose renewal does not fail is not late, unless it has expired.
func TestLatenessWithoutFailures(t *testing.T) {
	var l Lateness
	if l.Pass(newYear, newYear) {
		t.Error("late before its end, although no renewal failed")
	}
	if !l.Pass(newYear, newYear.Add(1)) {
		t.Error("it ended, and that is not reported")
	}
	if l.Pass(newYear, newYear.Add(day)) {
		t.Error("its end is reported twice")
	}
}

func TestLatenessKnowsTheLastCause(t *testing.T) {
	var l Lateness
	if l.Cause() != nil {
		t.Errorf("cause %v of no failure", l.Cause())
	}
	for _, cause := range []error{errors.New("first"), errors.New("second")} {
		l.Failed(newYear.Add(day), cause, newYear)
		if l.Cause() != cause {
			t.Errorf("cause %v, want %v", l.Cause(), cause)
		}
	}
}
