package certmgr

import (
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// reportLateness reports a certificate whose renewal keeps failing: each mark
// once, and if several have passed, only the last.
func (r *renewals) reportLateness(cert *certificate, now time.Time) {
	if cert == nil || !r.schedule.passMarks(cert, now) {
		return
	}
	e := certEvent(audit.RenewalLate, cert)
	e.Reason = fmt.Sprintf("the certificate expires in %v", cert.notAfter.Sub(now).Round(time.Minute))
	if !cert.usable(now) {
		e.Kind, e.Reason = audit.CertificateExpired, ""
	}
	if rec := r.health.failures.last(cert.subject); rec != nil {
		e.RetryAt, e.Err = rec.err.RetryAt, rec.err
	} else if o := r.health.breaker.state(); o.failures > 0 {
		e.RetryAt, e.Err = o.wait.Until, o.cause
	} else {
		e.RetryAt, e.Err = now, r.schedule.lastCause(cert)
	}
	r.audit.Emit(e)
}

func (r *schedule) lastCause(cert *certificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[cert.subject]; it != nil {
		return it.late.Cause()
	}
	return nil
}

// passMarks records the marks reached, and reports whether any is new.
func (r *schedule) passMarks(cert *certificate, now time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[cert.subject]
	return it != nil && it.late.Pass(cert.notAfter, now)
}
