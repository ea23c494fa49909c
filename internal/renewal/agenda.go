package renewal

import (
	"container/heap"
	"math"
	"time"
)

// An Agenda is a priority queue of appointments by time. It limits how many of
// them are in progress at once. It is not safe for concurrent use.
type Agenda[T any] struct {
	Limit int // appointments in progress at once; zero means none

	heap appointmentHeap[T]
	busy int // appointments in progress
}

// An Appointment is a time at which something is due for an item. The zero
// value, with Item set, is not in an agenda yet. It must not be copied while it
// is in one.
type Appointment[T any] struct {
	Item T

	at    int64 // in Unix nanoseconds
	place int32 // position in its agenda's heap, from 1; 0 if it is in none
}

// At returns when the appointment is due, or was due.
func (a *Appointment[T]) At() time.Time { return time.Unix(0, a.at) }

// IsSet reports whether the appointment is in an agenda: neither taken by Next
// nor canceled.
func (a *Appointment[T]) IsSet() bool { return a.place > 0 }

// Next removes an appointment that is due at now and returns its item. The
// caller calls Done when it has finished. If nothing can be taken, wait is how
// long to wait for the next appointment. It is math.MaxInt64 if only a Done or
// a Set can change that.
func (a *Agenda[T]) Next(now time.Time) (item T, wait time.Duration, ok bool) {
	if len(a.heap) == 0 || a.busy >= a.Limit {
		return item, math.MaxInt64, false
	}
	if left := a.heap[0].at - now.UnixNano(); left > 0 {
		return item, time.Duration(left), false
	}
	a.busy++
	return heap.Pop(&a.heap).(*Appointment[T]).Item, 0, true
}

// Done notes that the work of an appointment is finished.
func (a *Agenda[T]) Done() { a.busy-- }

// Set adds or moves an appointment.
func (a *Agenda[T]) Set(p *Appointment[T], t time.Time) {
	p.at = unixNano(t)
	if p.IsSet() {
		heap.Fix(&a.heap, int(p.place-1))
	} else {
		heap.Push(&a.heap, p)
	}
}

// Cancel removes an appointment, if it is set.
func (a *Agenda[T]) Cancel(p *Appointment[T]) {
	if p.IsSet() {
		heap.Remove(&a.heap, int(p.place-1))
	}
}

// unixNano is t.UnixNano, clamped to the times that it is defined for: a CA may
// date certificates beyond them.
func unixNano(t time.Time) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	if s := t.Unix(); s <= 0 || s >= most {
		return min(max(s, 0), most) * int64(time.Second)
	}
	return t.UnixNano()
}

// appointmentHeap is a heap by time; see container/heap.
type appointmentHeap[T any] []*Appointment[T]

func (h appointmentHeap[T]) Len() int           { return len(h) }
func (h appointmentHeap[T]) Less(i, j int) bool { return h[i].at < h[j].at }
func (h appointmentHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = int32(i)+1, int32(j)+1
}
func (h *appointmentHeap[T]) Push(x any) {
	p := x.(*Appointment[T])
	*h = append(*h, p)
	p.place = int32(len(*h))
}
func (h *appointmentHeap[T]) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.place = 0
	return p
}
