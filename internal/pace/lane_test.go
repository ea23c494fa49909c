package pace

import (
	"testing"
	"time"
)

var (
	newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	three   = Limit{Burst: 3, Every: time.Minute}
)

func TestLaneReservesABurstAndThenOneAfterTheOther(t *testing.T) {
	now := newYear
	var l Lane
	for i, want := range []time.Duration{0, 0, 0, time.Minute, 2 * time.Minute} {
		if at := l.Reserve(now, three); at.Sub(now) != want {
			t.Errorf("reservation %d is in %v, want %v", i, at.Sub(now), want)
		}
	}
	now = now.Add(3*time.Minute + 30*time.Second) // one is free, half of the next
	for i, want := range []time.Duration{0, 30 * time.Second} {
		if at := l.Reserve(now, three); at.Sub(now) != want {
			t.Errorf("later reservation %d is in %v, want %v", i, at.Sub(now), want)
		}
	}
	now = now.Add(time.Hour)
	for i, want := range []time.Duration{0, 0, 0, time.Minute} {
		if at := l.Reserve(now, three); at.Sub(now) != want {
			t.Errorf("reservation %d after an hour is in %v, want %v", i, at.Sub(now), want)
		}
	}
}

// A Take that fails uses nothing up, however often.
func TestLaneTakesOnlyWhatIsFree(t *testing.T) {
	now := newYear
	var l Lane
	for i := range 100 {
		next, ok := l.Take(now, three)
		if ok != (i < 3) {
			t.Fatalf("take %d: %v", i, ok)
		}
		if !ok && !next.Equal(now.Add(time.Minute)) {
			t.Fatalf("take %d: the next one is free in %v, want a minute", i, next.Sub(now))
		}
	}
	now = now.Add(time.Minute - 1)
	if _, ok := l.Take(now, three); ok {
		t.Error("one is free before the time is over")
	}
	if _, ok := l.Take(now.Add(1), three); !ok {
		t.Error("none is free when the time is over")
	}
}

// A lane that was idle for years allows only one burst.
func TestLaneDoesNotSaveUp(t *testing.T) {
	now := newYear
	var l Lane
	for range 2 {
		n := 0
		for range 1000 {
			if _, ok := l.Take(now, PerDomain()); ok {
				n++
			}
		}
		if n != DomainBurst {
			t.Errorf("%d at once, want %d", n, DomainBurst)
		}
		now = now.AddDate(10, 0, 0)
	}
}

// A clock that is set back by a year neither closes a lane for a year nor opens
// it.
func TestLaneFollowsAClockThatIsSetBack(t *testing.T) {
	now := newYear
	var l Lane
	l.Take(now, three)
	l.Take(now, three)
	now = now.AddDate(-1, 0, 0)
	for i, want := range []bool{true, false} {
		if _, ok := l.Take(now, three); ok != want {
			t.Errorf("take %d after the clock was set: %v, want %v", i, ok, want)
		}
	}
	if at := l.Reserve(now, three); at.Sub(now) != time.Minute {
		t.Errorf("the next one is free in %v, want a minute", at.Sub(now))
	}
}

// A lane says when it is as good as a new one.
func TestLaneKnowsWhenItIsEmpty(t *testing.T) {
	var l Lane
	if l.EmptyAt().After(newYear) {
		t.Errorf("a new lane is empty at %v", l.EmptyAt())
	}
	l.Take(newYear, three)
	l.Take(newYear, three)
	if got := l.EmptyAt().Sub(newYear); got != 2*time.Minute {
		t.Errorf("empty after %v, want two minutes", got)
	}
}
