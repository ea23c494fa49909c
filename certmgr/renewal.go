package certmgr

import (
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/renewal"
)

// renewals does what is due: it renews certificates, and asks the CA when to
// renew.
type renewals struct {
	*env
	gate     *gate
	health   *health
	memory   *memory
	loader   *loader
	issuer   *issuer
	keeper   keeper
	progress *progress
	schedule *schedule
	visits   *visits
	windows  *windowStore // nil if each machine asks the CA for itself
}

var _ worker = (*renewals)(nil)

// renew renews one subject's certificate, or issues a first one for Start, or
// reschedules it.
func (r *renewals) renew(ctx context.Context, sub subject) {
	if r.renewGrouped(ctx, sub) {
		return
	}
	cert := r.memory.current(sub)
	if cert == nil && !r.schedule.isWanted(sub) {
		r.schedule.dropUnplanned(sub)
		return
	}
	g, ok := r.permitted(ctx, sub.host())
	if !ok {
		return
	}
	now := r.now()
	r.awaitOwn(ctx)
	if err := r.own.forbids(sub, now); err != nil {
		r.yield(sub, cert)
		return
	}
	if cert != nil && r.letsExpire(ctx, cert, g) {
		return
	}
	if e := r.health.dns.of(sub.id()); e != nil {
		r.schedule.again(sub, cert, e.RetryAt, e)
		return
	}
	seen := probeDates{r.schedule}.takeSeen(sub)
	replaces := cert != nil && r.isReplacement(sub)
	if (cert == nil || replaces) && r.health.failures.active(sub, now) == nil {
		req := issueRequest{sub: sub, grant: g, priority: background}
		err := r.health.refuse(req)
		if err == nil {
			err = r.issuer.orders.mayAsk(req)
		}
		if err == nil {
			err = r.issuer.orders.mayOrder(req)
		}
		if err != nil {
			r.reportLateness(cert, now)
			r.schedule.again(sub, cert, r.retryAt(sub, err), err)
			return
		}
		if replaces && !r.mayReplace(cert, now) || !(seen != nil && seen.waited) && !r.schedule.pace(sub, now) {
			return
		}
	}
	newer, err := r.loader.read(ctx, sub, g, quietly)
	if newer != nil && newer != cert {
		if !r.isDue(sub) {
			return // another machine's
		}
		cert = newer
	}
	r.reportLateness(cert, now)
	if err == nil || errors.Is(err, ErrCacheMiss) {
		_, err = r.loader.recall(ctx, sub, g)
	}
	if errors.Is(err, ErrCacheMiss) {
		err = nil
	}
	if rec := r.health.failures.active(sub, now); rec != nil {
		r.schedule.again(sub, cert, rec.err.RetryAt, rec.err)
		return
	}
	urgent := cert != nil && cert.dates().IsUrgent(now)
	if err != nil && !urgent {
		r.schedule.again(sub, cert, now.Add(pace.Jitter(retryRenewal)), err)
		return
	}
	req := issueRequest{sub: sub, grant: g, priority: background}
	if urgent {
		req.priority = urgentRenewal
	}
	if seen != nil {
		req.found = &seen.result
	}
	if err := r.issue(ctx, req, cert); err != nil && ctx.Err() == nil {
		r.schedule.again(sub, cert, r.retryAt(sub, err), err)
	}
}

// retryAt returns when to try again what err has prevented.
func (r *renewals) retryAt(sub subject, err error) time.Time {
	at := r.health.retryAt(sub)
	if bad, ok := errors.AsType[*caRefusal](err); ok && bad.kind == ErrBadSetting {
		return pace.Later(at, bad.retryAt)
	}
	return at
}

// yield reschedules a subject whose hosts have certificates of the operator's
// own for when these are about to expire, or forgets it if it has none itself.
func (r *renewals) yield(sub subject, cert *certificate) {
	if cert != nil {
		postpone(r.schedule, sub, r.own.until(sub.host(), r.now()))
		return
	}
	for _, host := range sub.names() {
		r.progress.have(host)
	}
	r.schedule.dropUnplanned(sub)
}

// isDue reports whether a subject whose certificate was just loaded is to be
// renewed as soon as schedule allows that.
func (r *renewals) isDue(sub subject) bool {
	var st HostStatus
	r.schedule.describe(sub, &st)
	return !st.RenewAt.After(r.now().Add(renewal.MinInterval))
}

// isReplacement reports whether a subject's certificate is to be replaced
// because it is for tests.
func (r *renewals) isReplacement(sub subject) bool {
	var st HostStatus
	r.schedule.describe(sub, &st)
	return st.RenewalCause == RenewalCauseTests
}

// mayReplace reports whether a certificate may be replaced now because it is
// for tests. If not, it is rescheduled.
func (r *renewals) mayReplace(cert *certificate, now time.Time) bool {
	if !r.authority.distrusts(cert) { // the CA has turned out to be for tests
		r.schedule.planLoaded(cert)
		return false
	}
	at := r.authority.replaceAt(now)
	if at.After(now) {
		r.schedule.firstAt(cert.subject, at)
		return false
	}
	return true
}

// issue issues the certificate unless it was replaced meanwhile. Success
// schedules the next renewal.
func (r *renewals) issue(ctx context.Context, req issueRequest, cert *certificate) error {
	sub := req.sub
	req.reason, req.explanation, req.suggested = r.schedule.reason(sub)
	if cert == nil {
		req.reason = "first certificate"
		if isStarting(r.schedule, sub) {
			req.reason = "Start"
		}
	}
	call, err := r.issuer.begin(req, func() error {
		if r.memory.current(sub) != cert {
			return errRenewed
		}
		return r.issuer.mayIssue(req)
	})
	if err == errRenewed {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = call.Await(ctx)
	return err
}

// errRenewed: the certificate was renewed meanwhile.
var errRenewed = errors.New("certmgr: renewed already")

// permitted asks allowlist and policy again. A refusal ends the host's service;
// a policy that cannot decide changes nothing.
func (r *renewals) permitted(ctx context.Context, host string) (grant, bool) {
	d := r.gate.permit(ctx, host)
	switch d.is {
	case audit.Refused:
		r.keeper.drop(host, d.err)
		return grant{}, false
	case audit.Undecided:
		r.gate.policy.report(host, d.err)
		return grant{trust: byPolicy}, !errors.Is(d.err, ErrClosed) && !r.memory.isRefused(host)
	}
	return d.grant, true
}
