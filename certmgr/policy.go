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

// HostPolicy decides whether a Manager may respond for a host: nil allows it.
// It is autocert's type, so that policies work with both packages.
//
// A policy is called with a normalised host and a context that ends after 5
// seconds. It may block, and is never called twice at the same time for the
// same host.
//
// An error is a refusal: within Manager.PolicyTTL the host is not served any
// more. But the policy could not decide if it did not return in time, panicked, or
// if its error wraps one of these:
//
//   - ErrPolicy, for policies that want to say so;
//   - context.DeadlineExceeded or context.Canceled;
//   - an error whose Timeout method returns true, as those of package net do and
//     os.ErrDeadlineExceeded.
//
// That takes no valid certificate out of service or from renewal, and has none
// issued for a host without one. A policy that asks a database wraps each error
// that is not the answer: fmt.Errorf("%w: %w", certmgr.ErrPolicy, err).
type HostPolicy = autocert.HostPolicy

// AllowAnyHost is a HostPolicy that allows every host. Anyone who points a
// name at the server can then have certificates issued: below each registered
// domain new names are paced, and such hosts never hold more than half of the
// issuance slots.
func AllowAnyHost(ctx context.Context, _ string) error {
	if v, ok := ctx.Value(verdictKey{}).(*verdict); ok {
		v.untrusted = true
	}
	return nil
}

// verdict lets a policy of this package tell the Manager that calls it more
// than an error can. It is carried by the context, so that AllowAnyHost is
// recognised inside a policy that calls it too.
type verdict struct {
	untrusted bool // it allows any name
}

type verdictKey struct{}

// policyTimeout bounds one call of HostPolicy.
const policyTimeout = 5 * time.Second

// trust is how much it says for a host that it is allowed, and so how much may be spent
// on it. A stranger who points a name here can have it be untrusted, and a policy that
// means well may allow more than its author thought. So untrusted hosts are paced, have a
// bound of their own wherever they could fill something (issuances, cache reads, memory),
// come after others and are the first to make room, and their failures are remembered in
// memory alone. Hosts that are allowed byPolicy have bounds of their own on issuances in
// flight and on visits. A host that is listed is one of as many as the list has.
type trust uint8

const (
	notAllowed trust = iota
	untrusted        // a wildcard or AllowAnyHost allows it
	byPolicy         // HostPolicy vouches for it
	listed           // Hosts holds its exact name
)

// policy asks HostPolicy.
type policy struct {
	settings *settings
	flight   *flight.Flight[string, trust]
	calls    *flight.Callouts
	reports  *coalescer
}

// report makes an event of a policy that could not decide. It fails for every host
// alike as a rule.
func (p *policy) report(host string, err error) {
	if _, left := err.(*flight.Left); left {
		return // the visitor's doing
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

// policyRefusal marks a policy's own error as a refusal, inside this file.
type policyRefusal struct{ err error }

func (p policyRefusal) Error() string { return p.err.Error() }

// ask returns what HostPolicy decides. The error of a refusal is HostPolicy's own,
// unchanged.
func (p *policy) ask(ctx context.Context, host string) decision {
	decide := p.settings.hostPolicy
	if decide == nil {
		text := "not on the list in Manager.Hosts; add it there to allow it"
		if p.settings.hosts == nil {
			text = "no host is allowed, because neither Manager.Hosts nor Manager.HostPolicy is set; " +
				"set Hosts: certmgr.MustAllowlist(\"" + host + "\")"
		}
		return refuse(&refusal{kind: ErrHostNotAllowed, host: host, text: text})
	}
	if isWhitelist(decide) {
		if err := decide(ctx, host); err != nil {
			return refuse(err)
		}
		return allow(byPolicy, time.Time{})
	}
	call, err := p.flight.Start(host, func(ctx context.Context) (trust, error) {
		return p.call(ctx, host, decide)
	})
	if err != nil {
		return undecided(&refusal{kind: err, host: host})
	}
	st, err := call.Wait(ctx)
	switch err := err.(type) {
	case nil:
		return allow(st, time.Time{})
	case policyRefusal:
		return refuse(err.err)
	default:
		return undecided(err)
	}
}

func (p *policy) call(ctx context.Context, host string, decide HostPolicy) (trust, error) {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	type answer struct {
		verdict   *verdict
		err       error // the policy's own
		undecided bool
	}
	a, err := flight.CallOut(ctx, p.calls, host, func(ctx context.Context) (answer, error) {
		v := new(verdict)
		err := decide(context.WithValue(ctx, verdictKey{}, v), host)
		return answer{v, err, err != nil && isUndecided(err)}, nil // an error's methods are the user's code too
	})
	switch {
	case errors.Is(err, context.Canceled) && context.Cause(ctx) == ErrClosed:
		return notAllowed, &refusal{kind: ErrClosed, host: host}
	case err != nil:
		return notAllowed, &refusal{kind: ErrPolicy, host: host, text: noAnswer(err) + "; the host is not refused, try again", cause: err}
	case a.undecided:
		return notAllowed, a.err
	case a.err != nil:
		return notAllowed, policyRefusal{a.err}
	case a.verdict.untrusted:
		return untrusted, nil
	}
	return byPolicy, nil
}

// noAnswer says why a policy gave none.
func noAnswer(err error) string {
	switch {
	case errors.Is(err, flight.ErrPanic):
		return "no answer, it did not return"
	case errors.Is(err, ErrBusy):
		return "it was not asked"
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
