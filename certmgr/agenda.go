package certmgr

import (
	"container/heap"
	"time"
)

// appointment is a moment at which something has to be done for a subject.
type appointment struct {
	at    int64 // in Unix nanoseconds
	index int32 // in its agenda's heap; -1: in none
	kind  agendaKind
	item  *renewalItem
}

// agendaKind says what there is to do, and with it which workers do it.
type agendaKind uint8

const (
	agendaRenew agendaKind = iota // a certificate is due
	agendaRetry                   // the same, for a host that failed before
	agendaAsk                     // the CA is asked when to renew

	agendaKinds = 3
)

// agenda is the appointments of one kind, and bounds how many are kept at the
// same time: those for hosts that failed hold half as many workers as the
// others, and a CA that is slow to say when to renew delays no renewal.
// renewals.mu guards it.
type agenda struct {
	heap  appointmentHeap
	limit int
	busy  int // workers
}

// next removes an appointment that is due and takes a worker for it, or says how
// long there is nothing to do: until what comes next, or until a worker is free.
func (a *agenda) next(now int64) (due *appointment, wait time.Duration) {
	if len(a.heap) == 0 || a.busy >= a.limit {
		return nil, maxTimer
	}
	if left := a.heap[0].at - now; left > 0 {
		return nil, min(time.Duration(left), maxTimer)
	}
	a.busy++
	return heap.Pop(&a.heap).(*appointment), 0
}

// set makes or moves an appointment.
func (a *agenda) set(p *appointment, at int64) {
	p.at = at
	if p.index < 0 {
		heap.Push(&a.heap, p)
	} else {
		heap.Fix(&a.heap, int(p.index))
	}
}

func (a *agenda) cancel(p *appointment) {
	if p.index >= 0 {
		heap.Remove(&a.heap, int(p.index))
	}
}

// appointmentHeap is a heap by time; see container/heap.
type appointmentHeap []*appointment

func (h appointmentHeap) Len() int           { return len(h) }
func (h appointmentHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h appointmentHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}
func (h *appointmentHeap) Push(x any) {
	p := x.(*appointment)
	p.index = int32(len(*h))
	*h = append(*h, p)
}
func (h *appointmentHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}
