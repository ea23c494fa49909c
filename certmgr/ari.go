package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// askTimeout is the time-out of one question, including the directory if it is
// needed first.
const askTimeout = 2 * time.Minute

// ask asks the CA when to renew a certificate, and plans accordingly. It does
// not ask about expired certificates or those no longer in service.
func (r *renewals) ask(ctx context.Context, sub subject) {
	now := r.now()
	cert := r.memory.current(sub)
	switch {
	case cert == nil:
		return
	case !cert.usable(now), r.memory.isRefused(sub.host()) && r.settings.trustOf(sub.host()) == notAllowed:
		r.schedule.askAt(cert, now.Add(pace.Jitter(renewal.AskEvery))) // the clock may be wrong, the policy may change its mind
		return
	}
	if r.settings.trustOf(sub.host()) == notAllowed && !r.memory.isAllowedByPolicy(sub.host()) {
		if _, ok := r.permitted(ctx, sub.host()); !ok {
			return // it was on the list, and the policy does not know it
		}
	}
	if r.windows != nil {
		r.health.breakerStore.restore(ctx)
	}
	if o := r.health.breaker.state(); o.failures > 0 && (o.wait.Until.After(now) || r.health.waiting.isAttended()) {
		r.schedule.askAt(cert, pace.Later(o.wait.Until, now).Add(renewal.FirstAsk()))
		return
	}
	if r.windows != nil {
		r.askOnce(ctx, cert)
		return
	}
	r.askCA(ctx, cert)
}

// askCA asks the CA about a certificate, and applies the answer. It is not ok if ctx
// has ended.
func (r *renewals) askCA(ctx context.Context, cert *certificate) (a answeredWindow, ok bool) {
	in, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// It calls the user's HTTPClient and RetryBackoff.
	a.info, a.err = flight.CallOut(in, r.issuer.orders.calls, "renewal information for "+cert.subject.String(), func(ctx context.Context) (acmeclient.RenewalInfo, error) {
		return r.issuer.orders.ca.RenewalInfo(ctx, acmeclient.CertID(cert.leaf))
	})
	if ctx.Err() != nil {
		return a, false
	}
	a.next = r.schedule.answered(cert, a.info, a.err)
	return a, true
}

// answered applies the answer about a certificate, unless that was replaced
// meanwhile. It returns when to ask again.
func (r *schedule) answered(cert *certificate, info acmeclient.RenewalInfo, err error) (next time.Time) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(cert.subject)
	if it == nil || it.plan.CertID() != acmeclient.CertID(cert.leaf) || it.unneeded {
		return now.Add(renewal.AskEvery)
	}
	var wait time.Duration
	var moved bool
	if err == nil {
		wait, moved = it.plan.Answered(info)
	} else {
		wait = it.plan.Unanswered(err, retryAfter(err))
	}
	next = now.Add(wait)
	r.setAsk(it, next)
	// A renewal in progress or being retried follows its own backoff.
	if it.renew.IsSet() && it.kind == agendaRenew {
		r.setRenew(it, agendaRenew, it.plan.Due())
	}
	it.show()
	if moved {
		e := certEvent(audit.RenewalWindowMoved, cert)
		e.RetryAt, e.ExplanationURL = it.renew.At(), info.ExplanationURL
		e.Reason = "the CA suggests to renew between " + text.Stamp(info.Start) + " and " + text.Stamp(info.End)
		r.audit.Emit(e)
	}
	return next
}

func (r *schedule) askAt(cert *certificate, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items.Get(cert.subject); it != nil && it.plan.CertID() == acmeclient.CertID(cert.leaf) {
		r.setAsk(it, t)
	}
}
