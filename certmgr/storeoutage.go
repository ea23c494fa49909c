package certmgr

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/flight"
)

// storeOutage tells of a fleet's store that is down by one event, in place of one for
// each host and each record, and by another one when it is back. Until then it asks
// the store from time to time: with all certificates in memory, nobody else may.
type storeOutage struct {
	audit   *auditqueue.Queue
	reports *coalescer
	tasks   *flight.Tasks
	probe   func(ctx context.Context) // calls the store, and reports how that went
	copies  bool                      // the Cache returns copies while its store is down

	failing atomic.Bool // the last call failed; so that the others need no lock

	mu      sync.Mutex
	row     failedRow
	held    []heldReport // failures that are told soon, one by one or as an outage
	waiting bool         // a task is about to tell them
	down    bool         // it is an outage
	told    time.Time    // the last event of it
}

// report tells of a call that failed.
func (s *store) report(key string, e audit.Event) {
	if s.outage == nil {
		s.reports.report(key, e)
		return
	}
	s.outage.failed(key, e)
}

// works notes a call that succeeded.
func (s *store) works() {
	if s.outage != nil {
		s.outage.works()
	}
}

// worksFor notes a read that succeeded, unless it may be that of a local copy.
func (s *store) worksFor(key string) {
	if s.outage != nil && (!s.outage.copies || isRecord(key)) {
		s.outage.works()
	}
}

// failedRow is the calls that have failed since one succeeded.
type failedRow struct {
	count int
	keys  []string // the first different keys
	since time.Time
}

// heldReport is an event of a failed call, and the key that was about.
type heldReport struct {
	key   string
	event audit.Event
}

const (
	// storeDownKeys is for how many keys calls in a row fail when the store is down.
	// Fewer may be about single entries.
	storeDownKeys = 3

	// storeDownPatience is how long failures wait for others before they are told one
	// by one.
	storeDownPatience = time.Second

	// storeProbeEvery is how often a store that is down is asked at least, and
	// storeTellEvery is the time between two events about it: the alert looks at the
	// last 15 minutes.
	storeProbeEvery = 15 * time.Second
	storeTellEvery  = 10 * time.Minute
)

// works notes a call that succeeded.
func (o *storeOutage) works() {
	if !o.failing.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		o.audit.Emit(audit.Event{Kind: audit.CacheAvailable, Count: o.row.count, Duration: time.Since(o.row.since)})
	}
	o.row, o.down = failedRow{}, false
	o.failing.Store(false)
}

// failed notes a call for a key that failed with an event.
func (o *storeOutage) failed(key string, e audit.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.row.count == 0 {
		o.row.since = now
	}
	o.row.count++
	if len(o.row.keys) < storeDownKeys && !slices.Contains(o.row.keys, key) {
		o.row.keys = append(o.row.keys, key)
	}
	o.failing.Store(true)
	switch {
	case o.down:
		if now.Sub(o.told) >= storeTellEvery {
			o.tell(e.Err, now)
		}
		return
	case o.waiting:
		if len(o.held) < storeDownKeys {
			o.held = append(o.held, heldReport{key, e})
		}
		return
	case len(o.row.keys) >= storeDownKeys:
		o.goDown(e.Err, now)
		return
	}
	o.held = append(o.held, heldReport{key, e})
	if o.waiting = o.tasks.Go(o.tellSoon); !o.waiting {
		o.tellHeld()
	}
}

// declare begins an outage of which the Cache itself tells.
func (o *storeOutage) declare(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return
	}
	now := time.Now()
	if o.row.count == 0 {
		o.row.since = now
	}
	o.row.count++
	o.failing.Store(true)
	o.goDown(err, now)
}

// tellSoon tells the failures of the last moment.
func (o *storeOutage) tellSoon(ctx context.Context) {
	flight.Sleep(ctx, storeDownPatience)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = false
	if len(o.row.keys) >= storeDownKeys && len(o.held) > 0 {
		o.goDown(o.held[0].event.Err, time.Now())
	}
	o.tellHeld()
}

// tellHeld tells the failures one by one, unless they are an outage. o.mu is held.
func (o *storeOutage) tellHeld() {
	for _, h := range o.held {
		if !o.down {
			o.reports.report(h.key, h.event)
		}
	}
	o.held = nil
}

// goDown begins an outage. o.mu is held.
func (o *storeOutage) goDown(err error, now time.Time) {
	o.down = true
	o.tell(err, now)
	o.tasks.Go(o.ask)
}

// tell emits the event of an outage. o.mu is held.
func (o *storeOutage) tell(err error, now time.Time) {
	o.told = now
	o.audit.Emit(audit.Event{
		Kind:     audit.CacheUnavailable,
		Count:    o.row.count,
		Duration: now.Sub(o.row.since),
		Reason:   "no call has succeeded; certificates in memory are served, and nothing is ordered",
		Err:      err,
	})
}

// ask asks the store until the outage is over.
func (o *storeOutage) ask(ctx context.Context) {
	for flight.Sleep(ctx, storeProbeEvery) == nil {
		o.mu.Lock()
		down := o.down
		o.mu.Unlock()
		if !down {
			return
		}
		o.probe(ctx)
	}
}
