package certmgr

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// dispatcher hands what is due to workers, as many as there may be of each kind. One
// goroutine looks after all of it. It begins with the first appointment.
type dispatcher struct {
	now         func() time.Time
	tasks       *flight.Tasks
	schedule    *schedule
	worker      worker
	onClockBack []func(now time.Time) // who follows a clock that was ahead

	running atomic.Bool
	woken   chan struct{} // capacity 1
}

// worker does what is due. A renewal that makes no new appointment is looked at
// again by itself.
type worker interface {
	renew(ctx context.Context, sub subject)
	ask(ctx context.Context, sub subject)
}

// maxTimer makes the dispatcher look at the clock now and then: timers do not follow
// a clock that jumps, nor a machine that was suspended.
const maxTimer = 10 * time.Minute

// wake has the dispatcher look at what is due. It does not block.
func (d *dispatcher) wake() {
	if d.running.CompareAndSwap(false, true) {
		d.tasks.Go(d.run)
	}
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// run sends what is due on its way, until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	timer := time.NewTimer(maxTimer)
	defer timer.Stop()
	last := d.now().UnixNano()
	for {
		now := d.now()
		if now.UnixNano() < last-int64(time.Minute) {
			for _, follow := range d.onClockBack {
				follow(now)
			}
		}
		last = now.UnixNano()
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

// work keeps one appointment and frees its worker.
func (d *dispatcher) work(ctx context.Context, kind agendaKind, it *renewalItem) {
	defer d.schedule.done(kind, it)
	if kind == agendaAsk {
		d.worker.ask(ctx, it.sub)
		return
	}
	d.worker.renew(ctx, it.sub)
}
