package certmgr

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// auditor numbers events and delivers them in order, one at a time, in a
// goroutine that runs while there are any: a slow hook delays nobody.
type auditor struct {
	hook func() func(context.Context, Event) // Manager.Audit as it is now, may return nil
	now  func() time.Time

	mu      sync.Mutex
	seq     uint64
	queue   []Event
	dropped int
	idle    chan struct{} // non-nil while the goroutine runs; closed when it ends
	recent  []Event       // the last failures, for Snapshot
	refused refusals
}

// refusals counts refused handshakes, without a lock: scanners must not make
// handshakes wait for each other.
type refusals struct {
	total atomic.Uint64
	count atomic.Int64 // since the last event
	last  atomic.Int64 // its time, in Unix nanoseconds
}

const (
	maxQueuedEvents = 4096
	maxRecentEvents = 32
	refusedEvery    = time.Minute
)

// emit queues an event. It never blocks.
func (a *auditor) emit(e Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.emitLocked(e)
}

func (a *auditor) emitLocked(e Event) {
	a.seq++
	e.Seq = a.seq
	e.Time = a.now()
	if e.Failure() {
		if len(a.recent) == maxRecentEvents {
			copy(a.recent, a.recent[1:])
			a.recent = a.recent[:maxRecentEvents-1]
		}
		a.recent = append(a.recent, e)
	}
	if len(a.queue) >= maxQueuedEvents {
		a.dropped++
		return
	}
	a.queue = append(a.queue, e)
	if a.idle == nil {
		a.idle = make(chan struct{})
		go a.run(a.idle)
	}
}

// refuse counts a handshake that was turned away at now.
func (a *auditor) refuse(host string, err error, now time.Time) {
	r := &a.refused
	r.total.Add(1)
	r.count.Add(1)
	last, t := r.last.Load(), now.UnixNano()
	if since := t - last; last != 0 && since >= 0 && since < int64(refusedEvery) {
		return
	}
	if r.last.CompareAndSwap(last, t) {
		a.reportRefused(host, err)
	}
}

// reportRefused reports the refusals since the last report, with one example.
func (a *auditor) reportRefused(host string, err error) {
	if n := a.refused.count.Swap(0); n > 0 {
		a.emit(Event{Kind: EventRefused, Host: host, Count: int(n), Err: err})
	}
}

// run delivers until the queue is empty. It ends on its own, and it outlives a
// hook that panics or calls runtime.Goexit.
func (a *auditor) run(idle chan struct{}) {
	clean := false
	defer func() {
		r := recover()
		if clean {
			return
		}
		go a.run(idle)
		if r != nil {
			defer func() { recover() }() // slog's handler may be what panics
			AuditLog(nil)(context.Background(), Event{Time: a.now(), Kind: EventsDropped, Count: 1,
				Err: fmt.Errorf("audit hook: %w: %v", errCalloutPanic, r)})
		}
	}()
	for {
		e, ok := a.next(idle)
		if !ok {
			clean = true
			return
		}
		hook := a.hook()
		switch {
		case hook != nil:
			hook(context.Background(), e)
		case e.Failure():
			AuditLog(nil)(context.Background(), e)
		}
	}
}

func (a *auditor) next(idle chan struct{}) (Event, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 && a.dropped > 0 {
		n := a.dropped
		a.dropped = 0
		a.emitLocked(Event{Kind: EventsDropped, Count: n, Reason: "Manager.Audit is too slow"})
	}
	if len(a.queue) == 0 {
		a.queue = nil
		a.idle = nil
		close(idle)
		return Event{}, false
	}
	e := a.queue[0]
	a.queue[0] = Event{}
	a.queue = a.queue[1:]
	return e, true
}

// flush waits until every event is delivered, or ctx ends.
func (a *auditor) flush(ctx context.Context) error {
	a.mu.Lock()
	idle := a.idle
	a.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("certmgr: close: Manager.Audit did not return: %w", ctx.Err())
	}
}

// failures returns the last failures, oldest first.
func (a *auditor) failures() (recent []Event, refused uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Event(nil), a.recent...), a.refused.total.Load()
}
