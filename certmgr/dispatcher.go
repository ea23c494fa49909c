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
	ask(ctx context.Context, sub subject)
}

const (
	// maxTimer makes the scheduler check the clock from time to time: timers
	// follow neither a clock that jumps nor a suspended machine.
	maxTimer = 5 * time.Minute

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
	for {
		now := d.now()
		if clock.look(now) < -maxBack {
			for _, follow := range d.onClockBack {
				follow(now)
			}
		}
		timer.Reset(d.schedule.due(now, func(kind agendaKind, it *renewalItem) bool {
			return d.tasks.Go(func(ctx context.Context) { d.work(ctx, kind, it) })
		}))
		select {
		case <-timer.C:
		case <-d.woken:
		case <-ctx.Done():
			return
		}
	}
}

// work does the work of one appointment. If that made no new appointment,
// whatever went wrong, it is rescheduled: nothing is forgotten.
func (d *dispatcher) work(ctx context.Context, kind agendaKind, it *renewalItem) {
	defer d.schedule.done(kind, it)
	if kind == agendaAsk {
		d.worker.ask(ctx, it.sub)
		return
	}
	d.worker.renew(ctx, it.sub)
}
