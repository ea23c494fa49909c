package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// gate decides who is let in: which hosts are served, and certificates issued for.
// Hosts comes first, then HostPolicy.
type gate struct {
	*env
	policy   *policy
	memory   *memory
	failures *failures
}

// permit decides whether host may be served.
func (gt *gate) permit(ctx context.Context, host string) decision {
	if st := gt.settings.trustOf(host); st != notAllowed {
		return allow(st, time.Time{})
	}
	d := gt.policy.ask(ctx, host)
	if d.is != audit.Allowed {
		if gt.settings.hostPolicy != nil { // it took its time, and the host may have come onto the list
			if st := gt.settings.trustOf(host); st != notAllowed {
				return allow(st, time.Time{})
			}
		}
		return d
	}
	now := gt.now()
	if gt.memory.markAllowed(host, now) {
		gt.audit.Emit(audit.Event{
			Kind:     audit.HostRestored,
			Host:     host,
			Decision: audit.Allowed,
			Rule:     "HostPolicy",
			Reason:   "allowed again",
		})
	}
	return allow(d.grant.trust, now)
}

// allowed is permit for challenges, which only want to know. What keeps the policy
// from deciding is told to the operator: who asks by http-01 is told nothing of it.
func (gt *gate) allowed(ctx context.Context, host string) error {
	if gt.tasks.IsClosed() {
		return &refusal{kind: ErrClosed, host: host}
	}
	d := gt.permit(ctx, host)
	if d.is == audit.Undecided {
		gt.policy.report(host, d.err)
	}
	return d.err
}

// policyHolds reports whether an earlier yes of HostPolicy still serves a host
// in memory. One that is older than PolicyTTL does, and has the policy asked
// again in the background.
func (gt *gate) policyHolds(host string, e *hostEntry, now time.Time) bool {
	ttl := gt.settings.policyTTL
	yes := e.yes.Load()
	if yes == 0 || ttl <= 0 || gt.settings.hostPolicy == nil {
		return false
	}
	if age := now.UnixNano() - yes; age >= 0 && age < int64(ttl) {
		return true
	}
	asked := e.asked.Load()
	if since := now.UnixNano() - asked; since >= 0 && since < int64(min(ttl, askAgain)) || !e.asked.CompareAndSwap(asked, now.UnixNano()) {
		return true
	}
	gt.tasks.Go(func(ctx context.Context) {
		switch d := gt.permit(ctx, host); d.is {
		case audit.Refused:
			gt.failures.forgetHost(host)
			gt.refuseHost(host, d.err)
		case audit.Undecided:
			if ctx.Err() == nil {
				gt.policy.report(host, d.err)
			}
		}
	})
	return true
}

// askAgain is the least time between two questions to a policy that fails.
const askAgain = 10 * time.Second

// refuseHost takes a host out of service that allowlist and policy refuse.
// Where a policy does, it is asked again in each handshake, and before renewal,
// which drops the host.
func (gt *gate) refuseHost(host string, why error) {
	if gt.memory.markRefused(host) {
		gt.audit.Emit(audit.Event{
			Kind:     audit.HostDropped,
			Host:     host,
			Decision: audit.Refused,
			Rule:     gt.settings.decider(),
			Reason:   "no longer allowed",
			Err:      why,
		})
	}
}

// offList returns why the host of an issuance under ctx is not allowed any more, or
// nil. HostPolicy is asked elsewhere, and ends ctx if it refuses.
func (gt *gate) offList(ctx context.Context, host string) *refusal {
	if why, ok := context.Cause(ctx).(*refusal); ok && why.kind == ErrHostNotAllowed {
		return why
	}
	if gt.settings.hostPolicy != nil || gt.settings.trustOf(host) != notAllowed {
		return nil
	}
	return takenOff(host, "", nil)
}
