package certmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// HostPolicy decides whether a Manager may serve a host: nil allows it. It is
// autocert's type, so policies work with both packages.
//
// A policy is called with a normalised host and a context that ends after 5
// seconds. It may block, and is never called concurrently for the same host.
//
// An error is a refusal: the host is no longer served, from the next time that
// the policy is asked. For a host whose certificate is in memory that is at the
// first handshake after Manager.PolicyTTL, which itself is still served; at a
// handshake after Manager.MaxPolicyAge, which is not; and before renewal. But
// the policy counts as undecided if it does not return in time, panics, or
// returns an error that wraps one of these:
//
//   - ErrPolicy, for policies that report it explicitly;
//   - context.DeadlineExceeded or context.Canceled;
//   - an error whose Timeout method returns true, such as those of package net and
//     os.ErrDeadlineExceeded.
//
// In that case valid certificates stay in service and are renewed, but none is
// issued for a host without one. A policy that asks a database should wrap each
// error that is not an answer: fmt.Errorf("%w: %w", certmgr.ErrPolicy, err).
//
// A policy may allow more names than its author has in mind. So at most 250,000
// hosts that it allows are in memory, and 100,000 that a wildcard or
// AllowAnyHost allows. Beyond that, hosts that no client has asked for lately
// make way: their certificates stay in the Cache, are loaded at the next visit,
// and are renewed only then. Exact names on Manager.Hosts never make way.
type HostPolicy = autocert.HostPolicy

// AllowAnyHost is a HostPolicy that allows every host. Anyone who points a name
// at the server can then cause issuances. New names are therefore paced for
// each registered domain, and such hosts never hold more than a quarter of
// the issuance slots. Nothing is ordered for names that no public CA certifies,
// such as those below .internal.
func AllowAnyHost(ctx context.Context, _ string) error {
	if v, ok := ctx.Value(verdictKey{}).(*verdict); ok {
		v.untrusted = true
	}
	return nil
}

// verdict lets a policy of this package tell the calling Manager more than an
// error can. The context carries it, so AllowAnyHost is recognised even inside
// a policy that calls it.
type verdict struct {
	untrusted bool // the policy allows any name
}

type verdictKey struct{}

// policyTimeout is the time-out of one call of HostPolicy.
const policyTimeout = 5 * time.Second

// policy calls HostPolicy.
type policy struct {
	settings *settings
	flight   *flight.Flight[string, trust]
	calls    *flight.Callouts
	reports  *coalescer
}

// report emits an event of a policy that could not decide, which usually
// affects every host.
func (p *policy) report(host string, err error) {
	if _, left := err.(*flight.Left); left {
		return // the client left
	}
	if errors.Is(err, ErrClosed) {
		return
	}
	p.reports.report(host, audit.Event{
		Kind:     audit.PolicyFailed,
		Host:     host,
		Decision: audit.Undecided,
		Rule:     "HostPolicy",
		Reason:   "hosts with a certificate stay in service",
		Err:      err,
	})
}

// policyError marks a policy's own error, within this file.
type policyError struct {
	err error
	is  audit.Decision
}

func (p policyError) Error() string { return p.err.Error() }

// mayBlock reports whether asking the policy can take any time.
func (p *policy) mayBlock() bool {
	decide := p.settings.hostPolicy
	return decide != nil && !isWhitelist(decide)
}

// ask returns HostPolicy's decision. The error of a refusal is HostPolicy's
// own, unchanged.
func (p *policy) ask(ctx context.Context, host string) decision {
	if !p.mayBlock() {
		return p.decideAtOnce(ctx, host)
	}
	call, err := p.flight.Start(host, p.question(host))
	if err != nil {
		return undecided(&refusal{kind: err, host: host})
	}
	return decisionOf(call.Wait(ctx))
}

// askInTask is ask for tasks, which do not count against MaxWaiting.
func (p *policy) askInTask(ctx context.Context, host string) decision {
	if !p.mayBlock() {
		return p.decideAtOnce(ctx, host)
	}
	return decisionOf(p.flight.Do(ctx, host, p.question(host)))
}

// decideAtOnce decides if there is no policy, or one that cannot block.
func (p *policy) decideAtOnce(ctx context.Context, host string) decision {
	if decide := p.settings.hostPolicy; decide != nil {
		if err := decide(ctx, host); err != nil {
			return refuse(err)
		}
		return allow(byPolicy, time.Time{})
	}
	text := "not on the list in Manager.Hosts; add it there to allow it"
	if p.settings.hosts == nil {
		text = "no host is allowed, because neither Manager.Hosts nor Manager.HostPolicy is set; " +
			"set Hosts: certmgr.MustAllowlist(\"" + host + "\")"
	}
	return refuse(&refusal{kind: ErrHostNotAllowed, host: host, text: text})
}

// decisionOf returns the decision for the outcome of a call.
func decisionOf(st trust, err error) decision {
	switch err := err.(type) {
	case nil:
		return allow(st, time.Time{})
	case policyError:
		return decision{is: err.is, err: err.err, own: true}
	default:
		return undecided(err)
	}
}

// question returns the body of a call about host.
func (p *policy) question(host string) func(context.Context) (trust, error) {
	return func(ctx context.Context) (trust, error) { return p.call(ctx, host, p.settings.hostPolicy) }
}

func (p *policy) call(ctx context.Context, host string, decide HostPolicy) (trust, error) {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	type answer struct {
		verdict   *verdict
		err       error // the policy's own error
		undecided bool
	}
	a, err := flight.CallOut(ctx, p.calls, host, func(ctx context.Context) (answer, error) {
		v := new(verdict)
		err := decide(context.WithValue(ctx, verdictKey{}, v), host)
		return answer{v, err, err != nil && isUndecided(err)}, nil // an error's methods are user code too
	})
	switch {
	case errors.Is(err, context.Canceled) && context.Cause(ctx) == ErrClosed:
		return notAllowed, &refusal{kind: ErrClosed, host: host}
	case err != nil:
		return notAllowed, &refusal{kind: ErrPolicy, host: host, text: noAnswer(err) + "; the host is not refused, try again", cause: err}
	case a.undecided:
		return notAllowed, policyError{a.err, audit.Undecided}
	case a.err != nil:
		return notAllowed, policyError{a.err, audit.Refused}
	case a.verdict.untrusted:
		return untrusted, nil
	}
	return byPolicy, nil
}

// noAnswer says why a policy gave no answer.
func noAnswer(err error) string {
	switch {
	case errors.Is(err, flight.ErrPanic):
		return "no answer: it did not return"
	case errors.Is(err, ErrBusy):
		return "it was not called"
	}
	return fmt.Sprintf("no answer within %v", policyTimeout)
}

// isUndecided reports whether a policy's error says that it could not decide.
func isUndecided(err error) bool {
	if errors.Is(err, ErrPolicy) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	return flight.IsTimeout(err)
}
