package certmgr

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// auditor numbers events and delivers them in order, one at a time, in a
// goroutine that runs while there are any: a slow hook delays nobody.
type auditor struct {
	hook func() func(context.Context, audit.Event) // Manager.Audit as it is now, may return nil
	now  func() time.Time

	mu      sync.Mutex
	seq     uint64
	queue   []audit.Event
	dropped int
	idle    chan struct{} // non-nil while the goroutine runs; closed when it ends
	recent  []audit.Event // the last failures, for Snapshot
	history []audit.Event // the last events, for Snapshot
	total   map[audit.Kind]uint64
	lost    uint64 // events that were ever dropped
}

const (
	maxQueuedEvents = 4096
	maxRecentEvents = 32 // failures
	maxHistory      = 64 // events of all kinds
)

// emit queues an event. It never blocks.
func (a *auditor) emit(e audit.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.emitLocked(e)
}

func (a *auditor) emitLocked(e audit.Event) {
	a.seq++
	e.Seq = a.seq
	e.Time = a.now()
	if a.total == nil {
		a.total = make(map[audit.Kind]uint64)
	}
	a.total[e.Kind]++
	if e.IsFailure() {
		a.recent = appendLast(a.recent, e, maxRecentEvents)
	}
	if e.Kind != audit.StartProgress {
		a.history = appendLast(a.history, e, maxHistory)
	}
	if len(a.queue) >= maxQueuedEvents {
		a.dropped++
		a.lost++
		return
	}
	a.queue = append(a.queue, e)
	if a.idle == nil {
		a.idle = make(chan struct{})
		go a.run(a.idle)
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
			audit.Log(nil)(context.Background(), audit.Event{Time: a.now(), Kind: audit.EventsDropped, Count: 1,
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
		case e.IsFailure():
			audit.Log(nil)(context.Background(), e)
		}
	}
}

func (a *auditor) next(idle chan struct{}) (audit.Event, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 && a.dropped > 0 {
		n := a.dropped
		a.dropped = 0
		a.emitLocked(audit.Event{Kind: audit.EventsDropped, Count: n, Reason: "Manager.Audit is too slow"})
	}
	if len(a.queue) == 0 {
		a.queue = nil
		a.idle = nil
		close(idle)
		return audit.Event{}, false
	}
	e := a.queue[0]
	a.queue[0] = audit.Event{}
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

// appendLast appends e to list and drops the first if there are more than max.
func appendLast(list []audit.Event, e audit.Event, max int) []audit.Event {
	if len(list) == max {
		copy(list, list[1:])
		list = list[:max-1]
	}
	return append(list, e)
}

// last returns the last failures and the last events, oldest first.
func (a *auditor) last() (failures, events []audit.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.recent), slices.Clone(a.history)
}

// totals returns how many events of each kind there were, and how many of them
// were lost.
func (a *auditor) totals() (byKind map[audit.Kind]uint64, lost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byKind = make(map[audit.Kind]uint64)
	for _, kind := range audit.Kinds() {
		byKind[kind] = a.total[kind]
	}
	return byKind, a.lost
}
