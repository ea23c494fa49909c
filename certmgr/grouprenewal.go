package certmgr

import (
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// memberWait is how long after another member has begun the renewal of their
// group's certificate a member looks again.
const memberWait = time.Minute

// renewGrouped does what is due for a subject whose host is a member of a group, or
// whose group has ceased to be one. It returns false for all others, which are
// renewed as they are.
func (r *renewals) renewGrouped(ctx context.Context, sub subject) (done bool) {
	if sub.group {
		if r.groupOf(sub) == nil {
			r.schedule.drop(sub)
			return true
		}
		return false
	}
	target := r.subject(sub.host(), sub.alg)
	if target == sub {
		return false
	}
	cert := r.memory.current(sub)
	if cert == nil {
		r.schedule.dropUnplanned(sub)
		return true
	}
	g, ok := r.permitted(ctx, sub.host())
	if !ok {
		return true
	}
	if current := r.memory.current(target); current != nil && current.covers(sub.host()) && current.notAfter.After(cert.notAfter) {
		shareWith(r.memory, sub.host(), current, g, r.now())
		r.schedule.dropUnserved(sub)
		return true
	}
	r.reportLateness(cert, r.now())
	if err := r.issueForMember(ctx, cert, issueRequest{sub: target, grant: g, priority: background}); err != nil && ctx.Err() == nil {
		r.schedule.again(sub, cert, r.health.retryAt(target), err)
	}
	return true
}

// issueForMember has the certificate of a group issued because that of a member
// alone is due. If that is under way, it looks again later.
func (r *renewals) issueForMember(ctx context.Context, cert *certificate, req issueRequest) error {
	if cert.dates().IsUrgent(r.now()) {
		req.priority = urgentRenewal
	}
	req.reason = "the certificate of " + cert.subject.host() + " alone is due"
	call, err := r.issuer.begin(req, func() error {
		if r.memory.current(cert.subject) != cert {
			return errRenewed
		}
		return r.issuer.mayIssue(req)
	})
	if errors.Is(err, errRenewed) {
		return nil
	}
	if err != nil {
		return err
	}
	if !call.Began {
		r.schedule.firstAt(cert.subject, r.now().Add(pace.Jitter(memberWait)))
		return nil
	}
	_, err = call.Await(ctx)
	return err
}
