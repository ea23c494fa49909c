package certmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// HostPolicy decides whether a Manager may serve a host: nil allows it. It is
// autocert's type, so policies work with both packages.
//
// A policy is called with a normalised host and a context that ends after 5
// seconds. It may block, and is never called concurrently for the same host. One
// that does not block can be declared with NonBlocking.
//
// The answer counts for every client that asks for the host meanwhile, and
// later ones. AskerFromContext returns the client that asked first, for logs.
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

// policy asks HostPolicy.
type policy struct {
	settings *settings
	workers  *flight.Workers[answer]
	onDeath  func(name string, d *flight.Death)
	reports  *coalescer
}

// answer is HostPolicy's.
type answer struct {
	verdict   verdict
	err       error // HostPolicy's own
	undecided bool  // by err
}

// answerValue lets the context of a call carry the verdict of its answer.
func answerValue(key any, a *answer) any {
	if key == (verdictKey{}) {
		return &a.verdict
	}
	return nil
}

// policyCall is the context of a call in the goroutine of its caller.
type policyCall struct {
	context.Context
	verdict *verdict

	mu sync.Mutex
	by askedBy // nil once the call has returned
}

// Value returns what the package's own policies and AskerFromContext look for.
func (c *policyCall) Value(key any) any {
	switch key {
	case verdictKey{}:
		return c.verdict
	case askerKey{}:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.by
	}
	return c.Context.Value(key)
}

// end lets go of the client, which must not live as long as the context may.
func (c *policyCall) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = nil
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

// mayBlock reports whether asking the policy can take any time.
func (p *policy) mayBlock() bool {
	decide := p.settings.hostPolicy
	return decide != nil && !isWhitelist(decide) && !isNonBlocking(decide)
}

// ask returns HostPolicy's decision. The error of a refusal is HostPolicy's
// own, unchanged. If the caller left before, the error is a *flight.Left. The
// caller's For is an askedBy.
func (p *policy) ask(ctx context.Context, host string, by flight.Caller) decision {
	if !p.mayBlock() {
		return p.decideAtOnce(ctx, host, by.For)
	}
	a, err := p.workers.Do(ctx, host, by)
	return decisionOf(host, &a, err)
}

// askInTask is ask for tasks, which do not count against MaxWaiting.
func (p *policy) askInTask(ctx context.Context, host string, by flight.Caller) decision {
	if !p.mayBlock() {
		return p.decideAtOnce(ctx, host, by.For)
	}
	a, err := p.workers.DoInTask(ctx, host, by)
	return decisionOf(host, &a, err)
}

// decideAtOnce decides if there is no policy, or one that does not block.
func (p *policy) decideAtOnce(ctx context.Context, host string, by askedBy) decision {
	if decide := p.settings.hostPolicy; decide != nil {
		if !isWhitelist(decide) {
			a := new(answer)
			return decisionOf(host, a, p.callHere(ctx, host, by, a))
		}
		if err := decide(ctx, host); err != nil {
			return refuse(err)
		}
		return allow(byPolicy, time.Time{})
	}
	text := "not on the list in Manager.Hosts; add it there to allow it"
	if p.settings.hosts == nil {
		text = allowsNobody(host)
	}
	return refuse(&refusal{kind: ErrHostNotAllowed, host: host, text: text})
}

// allowsNobody says that the Manager was set up without list and policy, and the
// line to add. It never changes, unlike an empty list.
func allowsNobody(host string) string {
	return "no host is allowed, because neither Manager.Hosts nor Manager.HostPolicy is set; " +
		"set Hosts: certmgr.MustAllowlist(\"" + host + "\")"
}

// callHere calls HostPolicy in the goroutine of its caller, which a Goexit ends.
func (p *policy) callHere(ctx context.Context, host string, by askedBy, a *answer) (err error) {
	call := &policyCall{Context: ctx, verdict: &a.verdict, by: by}
	returned := false
	defer func() {
		call.end()
		if !returned {
			d := flight.NewDeath(fmt.Sprintf("HostPolicy for %q", host), recover())
			p.onDeath("HostPolicy", d)
			err = &flight.NoAnswer{Err: d}
		}
	}()
	p.call(call, host, a)
	returned = true
	if a.undecided && ctx.Err() != nil { // which is not the policy's failure
		return &flight.Left{Key: host, Cause: context.Cause(ctx)}
	}
	return nil
}

// call calls HostPolicy, and the methods of its error, which are the user's code
// too.
func (p *policy) call(ctx context.Context, host string, a *answer) {
	if err := p.settings.hostPolicy(ctx, host); err != nil {
		a.err, a.undecided = err, isUndecided(err)
	}
}

// decisionOf returns the decision for the outcome of a call.
func decisionOf(host string, a *answer, err error) decision {
	switch e := err.(type) {
	case nil:
	case *flight.NoAnswer:
		return undecided(&refusal{kind: ErrPolicy, host: host, text: noAnswer(e.Err) + "; the host is not refused, try again", cause: e.Err})
	default:
		if err == ErrClosed {
			err = &refusal{kind: ErrClosed, host: host}
		}
		return undecided(err)
	}
	switch {
	case a.undecided:
		return decision{is: audit.Undecided, err: a.err, own: true}
	case a.err != nil:
		return decision{is: audit.Refused, err: a.err, own: true}
	case a.verdict.untrusted:
		return allow(untrusted, time.Time{})
	}
	return allow(byPolicy, time.Time{})
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
