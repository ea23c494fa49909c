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
	ran := time.Hour
	var l Lane
	for i, want := range []time.Duration{0, 0, 0, time.Minute, 2 * time.Minute} {
		if turn := l.Reserve(ran, three); turn-ran != want {
			t.Errorf("reservation %d is in %v, want %v", i, turn-ran, want)
		}
	}
	ran += 3*time.Minute + 30*time.Second // one is free, half of the next
	for i, want := range []time.Duration{0, 30 * time.Second} {
		if turn := l.Reserve(ran, three); turn-ran != want {
			t.Errorf("later reservation %d is in %v, want %v", i, turn-ran, want)
		}
	}
	ran += time.Hour
	for i, want := range []time.Duration{0, 0, 0, time.Minute} {
		if turn := l.Reserve(ran, three); turn-ran != want {
			t.Errorf("reservation %d after an hour is in %v, want %v", i, turn-ran, want)
		}
	}
}

// A Take that fails uses nothing up, however often.
func TestLaneTakesOnlyWhatIsFree(t *testing.T) {
	ran := time.Duration(0)
	var l Lane
	for i := range 100 {
		next, ok := l.Take(ran, three)
		if ok != (i < 3) {
			t.Fatalf("take %d: %v", i, ok)
		}
		if !ok && next != ran+time.Minute {
			t.Fatalf("take %d: the next one is free in %v, want a minute", i, next-ran)
		}
	}
	ran += time.Minute - 1
	if _, ok := l.Take(ran, three); ok {
		t.Error("one is free before the time is over")
	}
	if _, ok := l.Take(ran+1, three); !ok {
		t.Error("none is free when the time is over")
	}
}

// A lane that was idle for years allows only one burst.
func TestLaneDoesNotSaveUp(t *testing.T) {
	ran := time.Duration(0)
	var l Lane
	for range 2 {
		n := 0
		for range 1000 {
			if _, ok := l.Take(ran, PerDomain()); ok {
				n++
			}
		}
		if n != DomainBurst {
			t.Errorf("%d at once, want %d", n, DomainBurst)
		}
		ran += 10 * 365 * 24 * time.Hour
	}
}

// A lane says when it is as good as a new one.
func TestLaneKnowsWhenItIsEmpty(t *testing.T) {
	const ran = time.Hour
	var l Lane
	if l.EmptyAt() > ran {
		t.Errorf("a new lane is empty at %v", l.EmptyAt())
	}
	l.Take(ran, three)
	l.Take(ran, three)
	if got := l.EmptyAt() - ran; got != 2*time.Minute {
		t.Errorf("empty after %v, want two minutes", got)
	}
}
