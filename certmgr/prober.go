package certmgr

import (
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
)

// prober ends an outage of the CA for the hosts that wait. When the breaker's
// wait is over it probes the CA, and after a probe that passes it has one of
// them make the order. When the CA is back it brings the others their
// certificates too, so that none depends on its next visitor.
//
// It runs in one goroutine, from the first refusal until nobody has come for a
// while; then the next visitor probes the CA in its own handshake.
type prober struct {
	*env
	gate     *gate
	health   *health
	memory   *memory
	loader   *loader
	issuer   *issuer
	schedule *schedule

	changed chan struct{} // capacity 1: the breaker's state has changed

	probed time.Time // by the monotonic clock; only the goroutine of run uses it
}

const (
	// minPatience is how long a visitor counts as waiting at least, and
	// patienceProbes for how many probes.
	minPatience    = time.Minute
	maxPatience    = 15 * time.Minute // for a Retry-After
	patienceProbes = 3

	// turnTime is how long a renewal or a Start has to make the order before
	// another waiter's turn.
	turnTime = 10 * time.Second

	// minNap keeps the prober from spinning while the clock stands still or jumps,
	// and minBetween keeps it from trying all the time.
	minNap     = 100 * time.Millisecond
	minBetween = 2 * time.Second

	// maxNap bounds how long the prober sleeps: timers follow neither a clock that
	// jumps nor a suspended machine, and waiters leave.
	maxNap = time.Minute
)

// start is called once there is a waiter. It does not block.
func (p *prober) start() { p.tasks.Go(p.run) }

// wake makes the prober look at the breaker's state. It does not block.
func (p *prober) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *prober) run(ctx context.Context) {
	for ctx.Err() == nil {
		o := p.health.breaker.state()
		now := p.now()
		if o.failures == 0 {
			p.serveAll(ctx)
		}
		if p.health.waiting.rest(now, patienceIn(o, now)) {
			return
		}
		switch {
		case o.failures == 0:
		case o.trying:
			p.nap(ctx, maxNap)
		case !o.mayTry(now):
			p.nap(ctx, min(o.wait.Until.Sub(now), maxNap))
		case time.Since(p.probed) < minBetween: // the clock was set
			p.nap(ctx, minBetween-time.Since(p.probed))
		case !p.try(ctx):
			p.nap(ctx, minBetween)
		}
	}
}

// patienceIn returns how long a visitor counts as waiting: at least until the CA
// is tried again, if that is soon.
func patienceIn(o outage, now time.Time) time.Duration {
	wait := min(o.wait.Until.Sub(o.wait.From), maxPatience)
	return max(minPatience+wait, patienceProbes*pace.ProbeEvery(o.age(now)))
}

// nap waits until the breaker's state changes, but not for longer than d, or
// minNap.
func (p *prober) nap(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(max(d, minNap))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.changed:
	case <-ctx.Done():
	}
}

// try probes the CA, unless somebody else was faster. If the probe passes, one
// of those who wait makes an order.
func (p *prober) try(ctx context.Context) (probed bool) {
	p.health.breakerStore.restore(ctx)
	one, err := p.health.breaker.allow("")
	if err != nil || !one {
		return false
	}
	p.probed = time.Now()
	if p.health.probe(ctx, "") == nil {
		p.health.breaker.passOn()
		p.order(ctx)
	}
	return true
}

// order has one of those who wait make an order.
func (p *prober) order(ctx context.Context) {
	for ctx.Err() == nil {
		w, ok := p.health.waiting.next()
		if !ok {
			return
		}
		if w.isDue() {
			if p.hasten(ctx, w) {
				return
			}
			continue
		}
		call, err := p.begin(ctx, w.req)
		if err == nil {
			call.Await(ctx)
		}
		if err == nil || isRefusedByCA(err) { // a visitor was faster
			return
		}
	}
}

// hasten makes a renewal or a Start due, and gives it time to make the order. It
// reports whether it is still to be tried again.
func (p *prober) hasten(ctx context.Context, w waiter) bool {
	select {
	case <-p.changed: // by the prober itself
	default:
	}
	if !p.schedule.hasten(w.req.sub) {
		return false
	}
	p.nap(ctx, turnTime)
	return true
}

// serveAll has all who wait make their orders, once the CA is back, unless it
// fails again meanwhile: then they wait again.
func (p *prober) serveAll(ctx context.Context) {
	for ctx.Err() == nil {
		w, ok := p.health.waiting.next()
		switch {
		case !ok:
			return
		case w.isDue():
			p.schedule.hasten(w.req.sub)
		default:
			if _, err := p.begin(ctx, w.req); isRefusedByCA(err) {
				return
			}
		}
	}
}

// isRefusedByCA reports whether the breaker refuses with err. Who was refused
// waits again, so that there is always a next one.
func isRefusedByCA(err error) bool {
	return errors.Is(err, ErrCAUnavailable) || errors.Is(err, ErrNoAccount)
}

// begin begins the issuance for a visitor that was refused. Everything may have
// changed since: the list, the policy, the cache.
func (p *prober) begin(ctx context.Context, req issueRequest) (issueTicket, error) {
	d := p.gate.permit(ctx, req.sub.host())
	if d.is != audit.Allowed {
		return issueTicket{}, d.err
	}
	req.grant = d.grant
	have := func() bool {
		cert := p.memory.current(req.sub)
		return cert != nil && cert.usable(p.now())
	}
	if !have() {
		if cert, err := p.loader.read(ctx, req.sub, d.grant, quietly); cert == nil && !errors.Is(err, ErrCacheMiss) {
			return issueTicket{}, err
		}
	}
	return p.issuer.begin(req, func() error {
		if have() {
			return errRenewed
		}
		return p.issuer.mayIssue(req)
	})
}
