package certmgr

import (
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// reportLateness reports a certificate whose renewal keeps failing: each mark
// once, and if several have passed, only the last.
func (r *renewals) reportLateness(cert *certificate, now time.Time) {
	if cert == nil {
		return
	}
	news, cause := r.schedule.passMarks(cert, now)
	if !news {
		return
	}
	e := certEvent(audit.RenewalLate, cert)
	e.Reason = fmt.Sprintf("the certificate expires in %v", cert.notAfter.Sub(now).Round(time.Minute))
	if !cert.usable(now) {
		e.Kind, e.Reason = audit.CertificateExpired, ""
	}
	if waits := r.health.dns.of(cert.subject.id()); waits != nil {
		e.RetryAt, e.Err = waits.RetryAt, waits
	} else if rec := r.health.failures.last(cert.subject); rec != nil {
		e.RetryAt, e.Err = rec.err.RetryAt, rec.err
	} else if o := r.health.breaker.state(); o.failures > 0 {
		e.RetryAt, e.Err = o.wait.Until, o.cause
	} else {
		e.RetryAt, e.Err = now, cause
	}
	r.audit.Emit(e)
}

// passMarks records the marks reached, and reports whether any is new, and why
// the renewal last failed.
func (r *schedule) passMarks(cert *certificate, now time.Time) (news bool, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items.Get(cert.subject)
	if it == nil {
		return false, nil
	}
	news = it.late.Pass(cert.notAfter, now)
	it.show()
	return news, it.late.Cause()
}
