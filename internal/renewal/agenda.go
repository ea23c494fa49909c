package renewal

import (
	"container/heap"
	"math"
	"time"
)

// An Agenda is a set of appointments by time. It bounds how many of them are kept
// at the same time.
type Agenda[T any] struct {
	Limit int // appointments that are kept at the same time; zero: none

	heap appointmentHeap[T]
	busy int // appointments that are being kept
}

// An Appointment is a moment at which something has to be done for an item. The
// zero value but for Item is one that is not made yet. It must not be copied once
// it is in an Agenda.
type Appointment[T any] struct {
	Item T

	at    int64 // in Unix nanoseconds
	place int32 // in its agenda's heap, from 1; 0: in none
}

// At returns when it is, or when it was.
func (a *Appointment[T]) At() time.Time { return time.Unix(0, a.at) }

// IsSet reports whether it is in an agenda: neither kept nor canceled.
func (a *Appointment[T]) IsSet() bool { return a.place > 0 }

// Next removes an appointment that is due at now and returns its item; Done is to
// be called when it was kept. If there is none, it returns how long there is
// nothing to do: until what comes next is due, or for ever if that is up to a Done
// or a Set.
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

// Done notes that an appointment was kept.
func (a *Agenda[T]) Done() { a.busy-- }

// Set makes or moves an appointment.
func (a *Agenda[T]) Set(p *Appointment[T], t time.Time) {
	p.at = unixNano(t)
	if p.IsSet() {
		heap.Fix(&a.heap, int(p.place-1))
	} else {
		heap.Push(&a.heap, p)
	}
}

// Cancel removes an appointment, if it is there.
func (a *Agenda[T]) Cancel(p *Appointment[T]) {
	if p.IsSet() {
		heap.Remove(&a.heap, int(p.place-1))
	}
}

// unixNano is t.UnixNano for the times that it is defined for; a CA may date
// certificates beyond them.
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
