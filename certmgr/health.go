package certmgr

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// health tracks what does not work: the failures of hosts and of the CA as a
// whole, in memory and in the Cache, who waits for the CA, and who for DNS.
type health struct {
	*env
	failures     *failures
	breaker      *breaker
	breakerStore *breakerStore
	waiting      *waiting
	dns          *dnsWaits
	store        *store
	self         origin // of the failures that this process records, without settings
	began        time.Time

	ask    func(ctx context.Context) error // sends the CA one request that costs little; set before the first use
	probes *flight.Flight[string, struct{}]
}

func newHealth(e *env, f *failures, d *dnsWaits, s *store, w *flight.Waiters) *health {
	self := origin{machine: e.settings.machine, process: strings.ToLower(rand.Text()[:10])}
	b := newBreaker(e.dir, e.audit, e.now)
	return &health{
		env:      e,
		failures: f,
		breaker:  b,
		breakerStore: &breakerStore{
			env:     e,
			breaker: b,
			store:   s,
			self:    self,
			began:   e.now(),
		},
		waiting: newWaiting(),
		dns:     d,
		store:   s,
		self:    self,
		began:   e.now(),
		probes:  flight.Named[struct{}](e.tasks, w),
	}
}

// refuse returns an error while the CA is out of service. The request counts as
// waiting then.
func (h *health) refuse(req issueRequest) error {
	err := h.breaker.check(req.sub.host(), h.waiting.isAttended())
	if err != nil {
		h.waiting.add(req, h.now())
	}
	return err
}

// probe makes the probe that must precede the order which breaker.allow has
// just permitted, if any, and returns why there can be no order.
func (h *health) probe(ctx context.Context, host string) error {
	if !h.breaker.needsProbe() {
		return nil
	}
	began := time.Now()
	err := h.ask(ctx)
	if ctx.Err() != nil {
		h.breaker.giveBack()
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	err = h.breaker.probed(host, time.Since(began), err)
	h.breakerStore.save()
	return err
}

// pass checks the breaker, and probes a CA that was out of service.
func (h *health) pass(ctx context.Context, i *issuance) error {
	if h.breaker.state().failures > 0 {
		h.breakerStore.restore(ctx) // another machine may have been told to wait
	}
	one, err := h.breaker.allow(i.host())
	if err == nil && one {
		err = h.probe(ctx, i.host())
	}
	i.one = one && err == nil
	if err != nil && ctx.Err() == nil {
		h.waiting.add(i.req, h.now())
	}
	return err
}

// confirm says whose failure it is that the CA failed for one host: if it does
// not pass a probe either, it fails for all. Attempts that fail together share
// the probe. cause is that of the failure, with what the probe has found.
func (h *health) confirm(ctx context.Context, what trouble, cause error) (trouble, error) {
	if what != troubleOwn || h.breaker.state().failures > 0 {
		return what, cause
	}
	call, err := h.probes.Start(h.dir, func(ctx context.Context) (struct{}, error) { return struct{}{}, h.ask(ctx) })
	if err != nil {
		return what, cause
	}
	if _, err = call.Await(ctx); err != nil && ctx.Err() == nil && !h.tasks.IsClosed() {
		return troubleCA, text.Join(cause, err)
	}
	return what, cause
}

// putOff has a host back off because of e, which is no failure of its own.
func (h *health) putOff(i *issuance, e *IssuanceError, cut bool) {
	last := h.failures.last(i.req.sub)
	if last != nil {
		e.Attempts = last.err.Attempts
	}
	active := h.failures.active(i.req.sub, e.Time)
	switch {
	case active != nil && active.err.RetryAt.After(e.RetryAt):
		e.RetryAt = active.err.RetryAt // the CA's wait takes precedence
	case last != nil && last.extra.why != "" && !cut:
		h.remember(i.req.sub, last.retryAt(e.RetryAt)) // the attempt is still to be recorded
	default:
		rec := h.newFailure(i, e)
		if last != nil {
			rec.blame, rec.extra = last.blame, last.extra
		}
		h.remember(i.req.sub, rec)
	}
}

// retryAt returns when sub may be tried again in the background.
func (h *health) retryAt(sub subject) time.Time {
	now := h.now()
	if e := h.dns.of(sub.id()); e != nil {
		return e.RetryAt
	}
	if rec := h.failures.active(sub, now); rec != nil {
		return rec.err.RetryAt
	}
	return pace.Later(now.Add(pace.Jitter(retryRenewal)), h.breaker.state().wait.Until)
}
