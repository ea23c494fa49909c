package certmgr

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// gate decides which hosts are allowed: served, and issued certificates for.
// Hosts comes first, then HostPolicy.
type gate struct {
	*env
	policy   *policy
	memory   *memory
	failures *failures
}

// permit decides whether host may be served.
func (gt *gate) permit(ctx context.Context, host string) decision {
	return gt.permitFor(ctx, host, flight.Caller{})
}

// permitFor is permit for a caller that does not wait for ever, or asks for a
// client.
func (gt *gate) permitFor(ctx context.Context, host string, by flight.Caller) decision {
	return gt.decide(host, func() decision { return gt.policy.ask(ctx, host, by) })
}

// permitInTask is permit for tasks, which do not count against MaxWaiting.
func (gt *gate) permitInTask(ctx context.Context, host string, by askedBy) decision {
	return gt.decide(host, func() decision { return gt.policy.askInTask(ctx, host, flight.Caller{For: by}) })
}

func (gt *gate) decide(host string, ask func() decision) decision {
	if st := gt.settings.trustOf(host); st != notAllowed {
		return allow(st, time.Time{})
	}
	d := ask()
	if d.is != audit.Allowed {
		if gt.settings.hostPolicy != nil { // the host may have been added to the list meanwhile
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

// allowed is permit for challenges, which need only the client's error. If the policy
// cannot decide, the operator gets an event; the client of an http-01 request
// does not learn why.
func (gt *gate) allowed(ctx context.Context, host string, by askedBy) (grant, error) {
	if gt.tasks.IsClosed() {
		return grant{}, &refusal{kind: ErrClosed, host: host}
	}
	d := gt.permitFor(ctx, host, flight.Caller{For: by})
	if d.is == audit.Undecided {
		gt.policy.report(host, d.err)
	}
	return d.grant, d.shown()
}

// ended returns an error if a permission of allowed has ended meanwhile.
func (gt *gate) ended(host string, g grant) error {
	if gt.isCurrent(host, g) {
		return nil
	}
	return &refusal{kind: ErrHostNotAllowed, host: host, text: "its permission ended while the answer was read"}
}

// stillAllowed reports whether a host in memory is allowed for all that is known
// here: it is on the list, or an earlier approval of HostPolicy still covers it. It
// does not block. hello is the client's, or nil.
func (gt *gate) stillAllowed(host string, e *hostEntry, now time.Time, hello *tls.ClientHelloInfo) bool {
	return gt.settings.hosts.holds(host, &e.listed) || gt.policyHolds(host, e, now, hello)
}

// policyHolds reports whether an earlier approval of HostPolicy still covers a
// host in memory. If it is older than PolicyTTL it still does, and the policy
// is asked again in the background. If it is older than MaxPolicyAge it does
// not, unless the policy could not decide a moment ago. An approval from the
// future was given by a clock that was ahead: it counts as too old.
func (gt *gate) policyHolds(host string, e *hostEntry, now time.Time, hello *tls.ClientHelloInfo) bool {
	ttl, most := gt.settings.policyTTL, gt.settings.maxPolicyAge
	yes := e.yes.Load()
	if yes == 0 || ttl <= 0 || gt.settings.hostPolicy == nil {
		return false
	}
	if most > 0 && !isWithin(yes, most, now) {
		return isWithin(e.undecided.Load(), askAgain, now)
	}
	if isWithin(yes, ttl, now) {
		return true
	}
	asked := e.asked.Load()
	if isWithin(asked, min(ttl, askAgain), now) || !e.asked.CompareAndSwap(asked, now.UnixNano()) {
		return true
	}
	gt.askInBackground(host, copyOfAsker(hello))
	return true
}

// askInBackground asks HostPolicy again about a host in memory.
func (gt *gate) askInBackground(host string, by askedBy) {
	gt.tasks.Go(func(ctx context.Context) {
		switch d := gt.permitFor(ctx, host, flight.Caller{For: by}); d.is {
		case audit.Refused:
			gt.failures.forgetHost(host)
			gt.refuseHost(host, d.err)
		case audit.Undecided:
			if ctx.Err() == nil {
				gt.policy.report(host, d.err)
			}
		}
	})
}

// isWithin reports whether at, in Unix nanoseconds, lies less than d before now,
// and not after it.
func isWithin(at int64, d time.Duration, now time.Time) bool {
	since := now.UnixNano() - at
	return since >= 0 && since < int64(d)
}

// askAgain is the shortest time between two calls of a policy that fails.
const askAgain = 10 * time.Second

// refuseHost takes a host out of service that allowlist and policy refuse. If
// it is a policy that refuses, it is asked again in each handshake, and before
// renewal, which drops the host.
func (gt *gate) refuseHost(host string, why error) {
	if gt.memory.markRefused(host, gt.now) {
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

// isCurrent reports whether a permission still holds after a wait: the list
// holds the host, or the policy has not refused it since. It does not block.
func (gt *gate) isCurrent(host string, g grant) bool {
	if g.policyYes.IsZero() {
		return gt.settings.trustOf(host) != notAllowed
	}
	return !gt.memory.isRefused(host)
}

// offList returns an error if host is no longer on the list. If there is a
// HostPolicy, the policy decides and offList returns nil. It does not block.
//
// It is called at the moment from which on a removal finds what begins: by
// issuer.begin, atomically with the decision to begin, and under memory's lock,
// atomically with the publication of a certificate. The list changes before a
// removal looks. So either the removal finds it, or offList finds the removal.
func (gt *gate) offList(host string) *refusal {
	if gt.settings.hostPolicy != nil || gt.settings.trustOf(host) != notAllowed {
		return nil
	}
	return takenOff(host, "", nil)
}
