package certmgr

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// dispatcher hands what is due to workers, a bounded number of each kind. It
// runs in one goroutine, which starts with the first appointment.
type dispatcher struct {
	now         func() time.Time
	tasks       *flight.Tasks
	schedule    *schedule
	worker      worker
	onClockBack []func(now time.Time) // called after the clock was set back

	running atomic.Bool
	woken   chan struct{} // capacity 1
}

// worker does what is due. A renewal that makes no new appointment is
// rescheduled.
type worker interface {
	renew(ctx context.Context, sub subject)
	probe(ctx context.Context, sub subject)
	ask(ctx context.Context, sub subject)
}

const (
	// maxTimer makes the scheduler check the clock from time to time: timers
	// follow neither a clock that jumps nor a suspended machine.
	maxTimer = 5 * time.Minute

	// minTimer is the shortest wait, and minTimerStill that after a wait in which
	// the clock did not move: something due soon must not make a loop then.
	minTimer      = time.Millisecond
	minTimerStill = 100 * time.Millisecond

	// maxBack is how far the clock may be set back without that: appointments
	// are as much later then.
	maxBack = time.Minute
)

// wake makes the dispatcher check what is due. It does not block.
func (d *dispatcher) wake() {
	if d.running.CompareAndSwap(false, true) {
		d.tasks.Go(d.run)
	}
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// run dispatches what is due until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	timer := time.NewTimer(maxTimer)
	defer timer.Stop()
	var clock clockWatch
	var before time.Time // by the clock, when the timer was set that has fired
	for {
		now := d.now()
		least := minTimer
		if !before.IsZero() && !now.After(before) {
			least = minTimerStill
		}
		if clock.look(now) < -maxBack {
			for _, follow := range d.onClockBack {
				follow(now)
			}
		}
		wait := d.schedule.due(now, func(kind agendaKind, it *renewalItem) bool {
			return d.tasks.Go(func(ctx context.Context) { d.work(ctx, kind, it) })
		})
		timer.Reset(max(wait, least))
		select {
		case <-timer.C:
			before = now
		case <-d.woken:
			before = time.Time{}
		case <-ctx.Done():
			return
		}
	}
}

// work does the work of one appointment. If that made no new appointment,
// whatever went wrong, it is rescheduled: nothing is forgotten.
func (d *dispatcher) work(ctx context.Context, kind agendaKind, it *renewalItem) {
	defer d.schedule.done(kind, it)
	if wait := d.pause(kind, it); wait > 0 && (flight.Sleep(ctx, wait) != nil || d.isPutOff(kind, it)) {
		return
	}
	switch kind {
	case agendaAsk:
		d.worker.ask(ctx, it.sub)
	case agendaProbe:
		d.worker.probe(ctx, it.sub)
	default:
		d.worker.renew(ctx, it.sub)
	}
}

// isPutOff reports whether an item that was due has a later appointment by now: its
// certificate was renewed meanwhile.
func (d *dispatcher) isPutOff(kind agendaKind, it *renewalItem) bool {
	d.schedule.mu.Lock()
	defer d.schedule.mu.Unlock()
	return kind != agendaAsk && it.renew.IsSet() && it.renew.At().After(d.now())
}

// minPause is the shortest time between two renewals, or questions, for a
// subject, whatever the Cache, the CA and the wall clock say.
const minPause = 5 * time.Second

// pause returns how long to wait before the work on an item that is due, and
// notes when it begins.
func (d *dispatcher) pause(kind agendaKind, it *renewalItem) time.Duration {
	d.schedule.mu.Lock()
	defer d.schedule.mu.Unlock()
	if kind == agendaRetry {
		kind = agendaRenew // which it is, too
	}
	begun := &it.begun[kind]
	now := time.Now()
	wait := time.Duration(0)
	if !begun.IsZero() {
		wait = max(0, minPause-now.Sub(*begun))
	}
	*begun = now.Add(wait)
	return wait
}
