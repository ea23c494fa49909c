package renewal

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func at(s int64) time.Time { return time.Unix(s, 0) }

func setAll(a *Agenda[int64], seconds ...int64) (made []*Appointment[int64]) {
	for _, s := range seconds {
		p := &Appointment[int64]{Item: s}
		a.Set(p, at(s))
		made = append(made, p)
	}
	return made
}

// At most Limit are in progress at once, and the rest stays in order.
func TestAgendaBoundsItsWorkers(t *testing.T) {
	a := &Agenda[int64]{Limit: 2}
	made := setAll(a, 30, 10, 50, 20, 40)
	take := func(now, want int64) {
		t.Helper()
		item, wait, ok := a.Next(at(now))
		switch {
		case want == 0 && ok:
			t.Errorf("at %d the appointment of %d is kept, want none", now, item)
		case want == 0 && wait <= 0:
			t.Errorf("at %d there is nothing to do for %v", now, wait)
		case want != 0 && item != want:
			t.Errorf("at %d got %v, want the appointment of %d", now, item, want)
		}
	}
	take(5, 0) // nothing is due
	if _, wait, _ := a.Next(at(5)); wait != 5*time.Second {
		t.Errorf("the next one is due in %v, want 5s", wait)
	}
	take(100, 10)
	take(100, 20)
	take(100, 0) // no worker is free
	a.Done()
	take(100, 30)
	a.Cancel(made[4]) // of 40
	a.Done()
	take(100, 50)
}

// A moved appointment comes at its new time, a canceled one does not come, and
// both can be set again.
func TestAgendaKeepsItsOrder(t *testing.T) {
	a := &Agenda[int64]{Limit: 1000}
	var seconds []int64
	for i := range int64(500) {
		seconds = append(seconds, i)
	}
	made := setAll(a, seconds...)
	want := make(map[int64]bool)
	for _, p := range made {
		switch rand.N(3) {
		case 0:
			a.Cancel(p)
			a.Cancel(p) // no effect
		case 1:
			p.Item = 1000 + rand.Int64N(1000)
			a.Set(p, at(p.Item))
		}
		if p.IsSet() {
			want[p.Item] = true
		}
	}
	var got []int64
	for {
		item, _, ok := a.Next(at(10_000))
		if !ok {
			break
		}
		got = append(got, item)
	}
	if !slices.IsSorted(got) {
		t.Errorf("they come in another order than that of their times: %v", got)
	}
	for _, item := range got {
		if !want[item] {
			t.Errorf("%d comes, which was canceled or moved", item)
		}
	}
	for _, p := range made {
		if p.IsSet() {
			t.Errorf("%d is still in the agenda", p.Item)
		}
	}
}

// A CA may date certificates beyond what Unix nanoseconds can hold.
func TestAppointmentsBeyondTime(t *testing.T) {
	for _, tt := range []struct{ year, want int }{{1, 1970}, {1969, 1970}, {2100, 2100}, {9999, 2262}} {
		var a Agenda[int]
		p := new(Appointment[int])
		a.Set(p, time.Date(tt.year, 1, 1, 0, 0, 0, 0, time.UTC))
		if got := p.At().UTC().Year(); got != tt.want {
			t.Errorf("an appointment of the year %d is in %d, want %d", tt.year, got, tt.want)
		}
	}
}
