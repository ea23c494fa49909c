package certmgr

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

// How often the CA is asked when to renew (RFC 9773, section 4.3): when it says
// by Retry-After, within bounds, and else often enough to learn of a revocation
// before it happens.
const (
	askEvery   = 6 * time.Hour
	askSoonest = time.Minute
	askLatest  = 24 * time.Hour

	// askRetry is the wait after a failure that may be over soon; it doubles up
	// to askEvery, which is the wait after any other one (section 4.3.3).
	askRetry = 5 * time.Minute

	// askTimeout bounds one question, with the directory that it may need first.
	askTimeout = 2 * time.Minute
)

// firstAsk returns the wait before the first question about a certificate, so
// that those which a start brings into memory do not all ask at once.
func firstAsk() time.Duration { return time.Minute + rand.N(9*time.Minute) }

// nextAsk returns the wait after an answer.
func nextAsk(info acmeclient.RenewalInfo) time.Duration {
	d := info.RetryAfter
	if d == 0 {
		d = askEvery
	}
	d = min(max(d, askSoonest), askLatest)
	return d + rand.N(d/20) // never sooner than the CA wants
}

// askAfterFailure returns the wait after the given number of failures in a row.
func askAfterFailure(err error, failed int) time.Duration {
	d := askEvery
	switch {
	case errors.Is(err, acmeclient.ErrNoRenewalInfo):
		d = askLatest // the directory is read again now and then by itself
	case acmeclient.IsTemporary(err):
		d = min(askRetry<<min(failed-1, 10), askEvery)
		d = max(d, min(retryAfter(err), askLatest))
	}
	return d + rand.N(d/10) // never sooner than the CA wants
}

// ask asks the CA when to renew a certificate, and plans accordingly. Nobody
// asks about one that is not in service any more, or has expired.
func (r *renewals) ask(ctx context.Context, sub subject) {
	now := r.now()
	cert := r.memory.current(sub)
	switch {
	case cert == nil:
		return
	case !cert.usable(now), r.memory.isRefused(sub.host()) && r.settings.listed(sub.host()) == notAllowed:
		r.schedule.askAt(cert, now.Add(jitter(askEvery))) // the clock may be wrong, the policy may change its mind
		return
	}
	if r.settings.listed(sub.host()) == notAllowed && !r.memory.isVetted(sub.host()) {
		if _, ok := r.permitted(ctx, sub.host()); !ok {
			return // it was on the list, and the policy does not know it
		}
	}
	if until, _, cause := r.health.breaker.state(); cause != nil && until.After(now) {
		r.schedule.askAt(cert, until.Add(firstAsk()))
		return
	}
	in, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// The user's HTTPClient and RetryBackoff take part.
	info, err := callOut(in, r.issuer.orders.calls, "renewal information for "+flightKey(sub), func(ctx context.Context) (acmeclient.RenewalInfo, error) {
		return r.issuer.orders.ca.RenewalInfo(ctx, acmeclient.CertID(cert.leaf))
	})
	if ctx.Err() != nil {
		return
	}
	r.schedule.answered(cert, info, err)
}

// answered takes over the answer about a certificate, unless that was replaced
// meanwhile.
func (r *schedule) answered(cert *certificate, info acmeclient.RenewalInfo, err error) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[cert.subject]
	if it == nil || it.plan.certID != acmeclient.CertID(cert.leaf) {
		return
	}
	p := &it.plan
	moved := false
	switch {
	case err == nil:
		moved = p.suggest(info)
		r.set(&it.ask, agendaAsk, now.Add(nextAsk(info)))
	case errors.Is(err, acmeclient.ErrNoRenewalInfo):
		p.forgetWindow()
		r.set(&it.ask, agendaAsk, now.Add(askAfterFailure(err, 1)))
	default:
		p.failed++
		r.set(&it.ask, agendaAsk, now.Add(askAfterFailure(err, p.failed)))
	}
	// A renewal that is being tried, or tried again, follows its own backoff.
	if it.renew.index >= 0 && it.renew.kind == agendaRenew {
		r.set(&it.renew, agendaRenew, p.due())
	}
	if moved {
		e := certEvent(audit.RenewalWindowMoved, cert)
		e.RetryAt, e.ExplanationURL = time.Unix(0, it.renew.at), info.ExplanationURL
		e.Reason = "the CA suggests to renew between " + text.Stamp(info.Start) + " and " + text.Stamp(info.End)
		r.audit.emit(e)
	}
}

func (r *schedule) askAt(cert *certificate, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[cert.subject]; it != nil && it.plan.certID == acmeclient.CertID(cert.leaf) {
		r.set(&it.ask, agendaAsk, t)
	}
}
