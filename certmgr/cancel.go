package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// takenOff is the error of an issuance whose host is no longer allowed: reason
// is that of the change, policy is HostPolicy's refusal.
func takenOff(host, reason string, policy error) *refusal {
	text := "taken off the list during its issuance"
	if reason != "" {
		text += " (" + reason + ")"
	}
	return &refusal{kind: ErrHostNotAllowed, host: host, text: text, cause: policy}
}

// refusedMeanwhile is takenOff for a host that HostPolicy alone has allowed, and
// refuses now.
func refusedMeanwhile(host string, policy error) *refusal {
	return &refusal{kind: ErrHostNotAllowed, host: host, text: "refused by HostPolicy during its issuance", cause: policy}
}

// endIssuances ends the issuances in flight, if any, for a host that is no longer
// allowed.
func endIssuances(is *issuer, host string, why func() *refusal) {
	if is.issues.IsIdle() {
		return // the usual case; keeps scanners cheap
	}
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		if sub := is.subject(host, alg); is.issues.Running(sub) != nil {
			is.issues.CancelKey(sub, why())
		}
	}
}

// takenOffBy returns the error that ended ctx if that is a takenOff, or nil: a
// change of the list, or HostPolicy's refusal after it, ends the context of the
// host's issuances.
func takenOffBy(ctx context.Context) *refusal {
	if why, ok := context.Cause(ctx).(*refusal); ok && why.kind == ErrHostNotAllowed {
		return why
	}
	return nil
}

// canceled ends an issuance that is no longer wanted, and returns the error for
// its waiters. It does not count as a failure.
func (is *issuer) canceled(i *issuance, out outcome, why *refusal) error {
	e := audit.Event{
		Kind:     audit.IssuanceCanceled,
		Decision: audit.Refused,
		Rule:     is.settings.decider(),
		Stage:    out.stage,
		OrderURL: out.order,
		Reason:   why.text,
		Err:      why.cause,
	}
	if !i.began.IsZero() {
		e.Duration = time.Since(i.began)
	}
	if c := out.cert; c != nil {
		// Keep it: the host may be allowed again before it expires.
		storeCertificate(is, i, out, func() bool { return false })
		e.Serial, e.NotAfter = serialOf(c.leaf), c.notAfter
		e.Reason += "; its certificate is kept in the Cache but not served"
	}
	if i.req.grant.trust == listed { // it no longer is
		is.audit.EmitReserved(i.event(e))
	} else {
		is.audit.Emit(i.event(e))
	}
	return why
}

// closed is canceled for an issuance that Close cut short.
func (is *issuer) closed(i *issuance, out outcome) error {
	is.audit.Emit(i.event(audit.Event{
		Kind:     audit.IssuanceCanceled,
		Rule:     "Close",
		Stage:    out.stage,
		OrderURL: out.order,
		Reason:   "the Manager was closed",
		Duration: time.Since(i.began),
	}))
	return &refusal{kind: ErrClosed, host: i.host(), cause: out.err}
}
