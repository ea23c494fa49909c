package certmgr

import (
	"context"
	"errors"
	"time"
)

// renew renews one subject's certificate, or has a first one issued where Start
// failed to, or says when to try again.
func (r *renewals) renew(ctx context.Context, sub subject) {
	s := r.s
	cert := s.memory.current(sub)
	if cert == nil && !r.isWanted(sub) {
		r.dropUnplanned(sub)
		return
	}
	g, ok := r.permitted(ctx, sub.host())
	if !ok {
		return
	}
	now := s.now()
	if cert == nil && s.failures.active(sub, now) == nil {
		if err := s.issuer.breaker.check(sub.host()); err != nil {
			r.again(sub, nil, s.retryAfterFailure(sub), err)
			return
		}
		if !r.pace(sub, now) {
			return
		}
	}
	newer, err := s.loader.read(ctx, sub, g, quietly)
	if newer != nil && (cert == nil || newer.notBefore.After(cert.notBefore)) {
		return // another machine's; scheduled as it was loaded
	}
	r.reportLateness(cert, now)
	if err == nil || errors.Is(err, ErrCacheMiss) {
		err = s.issuer.recall(ctx, sub, g)
	}
	if rec := s.failures.active(sub, now); rec != nil {
		r.again(sub, cert, rec.err.RetryAt, rec.err)
		return
	}
	urgent := cert != nil && cert.notAfter.Sub(now) <= urgentLeft(cert)
	if err != nil && !urgent {
		r.again(sub, cert, now.Add(jitter(retryRenewal)), err)
		return
	}
	if err := r.issue(ctx, sub, cert, g, urgent); err != nil && ctx.Err() == nil {
		r.again(sub, cert, s.retryAfterFailure(sub), err)
	}
}

// issue has the certificate issued unless somebody else did meanwhile. Success
// schedules the next renewal itself.
func (r *renewals) issue(ctx context.Context, sub subject, cert *certificate, g grant, urgent bool) error {
	s := r.s
	req := issueRequest{sub: sub, grant: g, priority: background}
	req.reason, req.explanation = r.reason(sub)
	if cert == nil {
		req.reason = "first certificate"
		if s.progress.wants(sub.host()) {
			req.reason = "Start"
		}
	}
	if urgent {
		req.priority = urgentRenewal
	}
	call, _, err := s.begin(req, func() error {
		if s.memory.current(sub) != cert {
			return errRenewed
		}
		return s.mayIssue(req)
	})
	if err == errRenewed {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = call.await(ctx, nil)
	return err
}

// errRenewed: somebody else renewed the certificate meanwhile.
var errRenewed = errors.New("certmgr: renewed already")

// reason returns why sub is renewed now, and the CA's page about it.
func (r *renewals) reason(sub subject) (reason, explanation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[sub]
	if it == nil {
		return "renewal", ""
	}
	return it.plan.reason(r.s.now()), it.plan.window.explanation
}

// again schedules the next look at sub: at t, or sooner if there is something to
// be reported before.
func (r *renewals) again(sub subject, cert *certificate, t time.Time, cause error) {
	if r.s.memory.current(sub) != cert {
		return // there is another by now, with its own plan
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	if cert != nil {
		if mark, ok := it.late.failing(cert, cause, r.s.now()); ok {
			t = earlier(t, mark)
		}
	}
	r.set(&it.renew, agendaRetry, t)
}

// permitted asks allowlist and policy again. A refusal ends the host's
// service; a policy that cannot decide changes nothing.
func (r *renewals) permitted(ctx context.Context, host string) (grant, bool) {
	s := r.s
	g, refused, err := s.permit(ctx, host)
	switch {
	case refused:
		s.dropHost(host, err)
		return g, false
	case err != nil && errors.Is(err, ErrClosed):
		return g, false
	case err != nil:
		s.policy.report(host, err)
		return grant{standing: vetted}, true
	}
	return g, true
}
