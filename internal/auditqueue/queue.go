// Package auditqueue delivers audit events to a hook: numbered, in order, one
// at a time. It knows the vocabulary of package audit and not where events come
// from.
package auditqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// Queue numbers events and delivers them in order, one at a time, in a
// goroutine that runs while events are queued. A slow hook does not block Emit.
// Queue is safe for concurrent use.
type Queue struct {
	// Hook returns the current hook. If it is nil, failures go to
	// slog.Default().
	Hook func() func(context.Context, audit.Event)
	// Now is the clock that dates events.
	Now func() time.Time
	// IsStrangers reports whether an event is about a host that a stranger may
	// have made up: such events have only a share of each list here. It must
	// not block. If it is nil, no event is.
	IsStrangers func(e audit.Event) bool

	mu      sync.Mutex
	seq     uint64
	backlog backlog
	idle    chan struct{} // non-nil while the goroutine runs; closed when it ends
	recent  []entry       // the last failures, for Snapshot
	history []entry       // the last events, for Snapshot
	hosts   hostLogs      // the last events of each host
	total   map[audit.Kind]uint64
	stackAt time.Time // when the stack of a panic of the hook was last told
}

// Emit queues an event. It never blocks.
func (q *Queue) Emit(e audit.Event) {
	q.emit(entry{Event: e, strangers: q.IsStrangers != nil && q.IsStrangers(e)})
}

// EmitReserved is Emit for an event that is not a stranger's, whatever
// IsStrangers says of its host now.
func (q *Queue) EmitReserved(e audit.Event) { q.emit(entry{Event: e}) }

func (q *Queue) emit(e entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(e)
}

func (q *Queue) add(e entry) {
	q.seq++
	e.Seq = q.seq
	e.Time = q.Now()
	if q.total == nil {
		q.total = make(map[audit.Kind]uint64)
		q.hosts = newHostLogs()
	}
	q.total[e.Kind]++
	if e.IsFailure() {
		q.recent = appendLast(q.recent, e, maxRecent, maxStrangersRecent)
	}
	if e.Kind != audit.StartProgress {
		q.history = appendLast(q.history, e, maxHistory, maxStrangersHistory)
	}
	if e.Host != "" {
		q.hosts.add(e)
	}
	if q.backlog.push(e) && q.idle == nil {
		q.idle = make(chan struct{})
		go q.run(q.idle)
	}
}

// run delivers events until the queue is empty. If the hook panics or calls
// runtime.Goexit, delivery continues in a new goroutine.
func (q *Queue) run(idle chan struct{}) {
	clean := false
	defer func() {
		r := recover()
		if clean {
			return
		}
		where, stack := text.PanicStack()
		go q.run(idle)
		if r != nil {
			defer func() { recover() }() // slog's handler may panic too
			audit.Log(nil)(context.Background(), audit.Event{
				Time:   q.Now(),
				Kind:   audit.EventsDropped,
				Reason: "Manager.Audit panicked",
				Count:  1,
				Err:    fmt.Errorf("audit hook: callback panicked: %v (in %s)", r, where),
				Stack:  q.tellStack(stack),
			})
		}
	}()
	for {
		e, ok := q.next(idle)
		if !ok {
			clean = true
			return
		}
		hook := q.Hook()
		switch {
		case hook != nil:
			hook(context.Background(), e)
		case e.IsFailure():
			audit.Log(nil)(context.Background(), e)
		}
	}
}

// tellStack returns stack if none was told within the last minute: a hook may
// panic for every event.
func (q *Queue) tellStack(stack string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); q.stackAt.IsZero() || now.Sub(q.stackAt) >= time.Minute {
		q.stackAt = now
		return stack
	}
	return ""
}

func (q *Queue) next(idle chan struct{}) (audit.Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.backlog.pop()
	if n := q.backlog.dropped; !ok && n > 0 {
		q.backlog.dropped = 0
		q.add(entry{Event: audit.Event{Kind: audit.EventsDropped, Count: n, Reason: "Manager.Audit is too slow"}})
		e, ok = q.backlog.pop()
	}
	if !ok {
		q.idle = nil
		close(idle)
		return audit.Event{}, false
	}
	return e.Event, true
}

// Flush waits until every event has been delivered, or ctx ends.
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
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

// Last returns the most recent failures and the most recent events, oldest
// first.
func (q *Queue) Last() (failures, events []audit.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return eventsOf(q.recent), eventsOf(q.history)
}

// Totals returns the number of events of each kind, and how many were lost in
// all.
func (q *Queue) Totals() (byKind map[audit.Kind]uint64, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	byKind = make(map[audit.Kind]uint64)
	for _, kind := range audit.Kinds() {
		byKind[kind] = q.total[kind]
	}
	return byKind, q.backlog.lost
}
