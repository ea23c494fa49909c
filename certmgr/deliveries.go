package certmgr

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/renewal"
)

// deliveries calls Manager.Issued for certificates that enter service. What
// waits is not a certificate but its subject, and the call gets the certificate
// that memory has then. So a host that is renewed twice meanwhile gets one call
// with the newest one, what waits is small, and there are never more of them
// than twice the certificates in memory. A few calls run at the same time, but
// never two for a host; one that does not return keeps its place.
type deliveries struct {
	*env
	memory *memory
	calls  *flight.Callouts

	dispatches atomic.Bool   // dispatch runs
	woken      chan struct{} // capacity 1

	mu      sync.Mutex
	begun   time.Time // of the clock of the agendas, which is monotonic
	waiting map[subject]*delivery
	busy    map[string][]*delivery // hosts with a call, and what waits for its end
	fresh   renewal.Agenda[*delivery]
	retries renewal.Agenda[*delivery]
	sweepAt int // length of waiting at which to look for what has left memory
}

// delivery is a certificate to be delivered. deliveries.mu guards it.
type delivery struct {
	renewal.Appointment[*delivery]

	sub     subject
	agenda  *renewal.Agenda[*delivery] // in which the appointment is or was
	running bool
	again   bool // there is a newer certificate than that of the call that runs

	// These are the call's, while one runs.
	failures int           // calls that failed, in a row
	wait     time.Duration // after the last of them
}

func (e *engine) newDeliveries(m *memory) *deliveries {
	return &deliveries{
		env:     e.env,
		memory:  m,
		calls:   e.callout("Issued", math.MaxInt).WithGrace(flight.Grace), // limited by the agendas
		woken:   make(chan struct{}, 1),
		begun:   time.Now(),
		waiting: make(map[subject]*delivery),
		busy:    make(map[string][]*delivery),
		fresh:   renewal.Agenda[*delivery]{Limit: maxIssuedCalls},
		retries: renewal.Agenda[*delivery]{Limit: maxIssuedRetries},
		sweepAt: minDeliveries,
	}
}

// deliver has Manager.Issued called for a certificate in memory. It does not
// block.
func (d *deliveries) deliver(c *certificate) {
	if d.settings.issued == nil {
		return
	}
	d.mu.Lock()
	it := d.waiting[c.subject]
	switch {
	case it == nil:
		d.sweep()
		it = &delivery{sub: c.subject}
		it.Item = it
		d.waiting[c.subject] = it
		fallthrough
	case it.IsSet():
		d.set(it, &d.fresh, d.ran())
	case it.running:
		it.again = true
	} // else it is in busy
	d.mu.Unlock()
	d.wake()
}

// ran is the clock of the agendas. It does not follow the wall clock.
func (d *deliveries) ran() time.Time { return d.begun.Add(time.Since(d.begun)) }

// set makes or moves an appointment. d.mu is held.
func (d *deliveries) set(it *delivery, in *renewal.Agenda[*delivery], t time.Time) {
	if it.agenda != nil {
		it.agenda.Cancel(&it.Appointment)
	}
	it.agenda = in
	in.Set(&it.Appointment, t)
}

// sweep forgets, once in a while, what waits for certificates that have left
// memory. d.mu is held.
func (d *deliveries) sweep() {
	if len(d.waiting) < d.sweepAt {
		return
	}
	for sub, it := range d.waiting {
		if !it.running && it.IsSet() && d.memory.current(sub) == nil {
			it.agenda.Cancel(&it.Appointment)
			delete(d.waiting, sub)
		}
	}
	d.sweepAt = max(minDeliveries, 2*len(d.waiting))
}

// wake has dispatch look at what is due.
func (d *deliveries) wake() {
	if d.dispatches.CompareAndSwap(false, true) {
		d.tasks.Go(d.dispatch)
	}
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// dispatch begins the calls that are due until ctx ends.
func (d *deliveries) dispatch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if wait := min(d.begin(&d.fresh), d.begin(&d.retries)); wait < math.MaxInt64 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-due:
		case <-d.woken:
		case <-ctx.Done():
			return
		}
	}
}

// begin begins the calls that are due, as far as there is room. It returns how
// long to wait for the next one.
func (d *deliveries) begin(from *renewal.Agenda[*delivery]) time.Duration {
	for {
		it, wait := d.next(from)
		if it == nil {
			return wait
		}
		if !d.tasks.Go(func(ctx context.Context) { d.call(ctx, it) }) {
			return math.MaxInt64
		}
	}
}

// next takes a certificate whose call is due, or returns how long to wait.
func (d *deliveries) next(from *renewal.Agenda[*delivery]) (*delivery, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		it, wait, ok := from.Next(d.ran())
		if !ok {
			return nil, wait
		}
		host := it.sub.host()
		others, busy := d.busy[host]
		if !busy {
			d.busy[host], it.running = nil, true
			return it, 0
		}
		from.Done()
		d.busy[host] = append(others, it) // the other key type's
	}
}

// call makes one call.
func (d *deliveries) call(ctx context.Context, it *delivery) {
	c := d.memory.current(it.sub)
	if c == nil || !c.usable(d.now()) {
		it.failures = 0
		d.end(it)
		return
	}
	in, cancel := flight.Within(ctx, issuedTimeout, "no answer")
	defer cancel()
	ended := make(chan struct{})
	_, err := flight.CallOut(in, d.calls, it.sub.host(), func(ctx context.Context) (struct{}, error) {
		defer close(ended)
		return struct{}{}, d.issuedCall(ctx, c)
	})
	if ctx.Err() != nil {
		return // closed: the next Start delivers it
	}
	if err != nil {
		d.failed(it, c, err)
	} else {
		d.succeeded(it, c)
	}
	if _, notBegun := err.(*flight.Busy); !notBegun {
		select {
		case <-ended: // a call that has not returned keeps its place
		case <-ctx.Done():
			return
		}
	}
	d.end(it)
}

// end makes room for the next calls: a newer certificate's, a repetition of one
// that failed, and those for the host.
func (d *deliveries) end(it *delivery) {
	d.mu.Lock()
	it.running = false
	it.agenda.Done()
	host := it.sub.host()
	for _, other := range d.busy[host] {
		d.set(other, other.agenda, d.ran())
	}
	delete(d.busy, host)
	switch {
	case it.again:
		it.again = false
		d.set(it, &d.fresh, d.ran())
	case it.failures > 0:
		d.set(it, &d.retries, d.ran().Add(it.wait))
	default:
		delete(d.waiting, it.sub)
	}
	d.mu.Unlock()
	d.wake()
}
