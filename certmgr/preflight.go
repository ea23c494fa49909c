package certmgr

import (
	"context"
	"errors"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/probe"
	"github.com/nostall/nostall/internal/text"
)

// newChecker returns the Checker for preflights. A check runs during an
// attempt, which holds the host's lock: no challenge of an order is pending in
// this process.
func (e *engine) newChecker(o *orders) *probe.Checker {
	return probe.New(probe.Config{
		Resolver: e.settings.preflightResolver,
		Dial:     e.settings.preflightDial,
		Allow:    e.settings.preflightAllow,
		Lookups:  e.callout("PreflightResolver", maxLookups).FailFast(probe.LookupTimeout),
		Dials:    e.callout("PreflightDial", maxDials).FailFast(probe.AskTimeout),
		Answers:  o.answers,
		Types:    e.settings.challengeTypes,
		Skew: func() time.Duration {
			if skew, ok := o.skew(); ok && isOff(skew) {
				return skew
			}
			return 0
		},
	})
}

// precheck runs the preflight before an order. It moves the challenge types
// that work to the front, and returns an error if no order is to be placed.
func (c *conversation) precheck(ctx context.Context) error {
	if c.preflight == preflight.Off || c.checked {
		return nil
	}
	c.checked = true
	c.enter(audit.StagePreflight)
	if c.req.sub.group {
		return c.precheckGroup(ctx)
	}
	found := c.find(ctx)
	if ctx.Err() != nil {
		return errors.New("the preflight was cut short")
	}
	enforce := c.preflight == preflight.Enforce
	if enforce {
		c.types = found.TypesThatMayWork(c.types)
	} else {
		c.types = found.Types(c.types) // the CA may see what this machine does not
	}
	e := audit.Event{
		Kind:     audit.HostUnreachable,
		Stage:    audit.StagePreflight,
		Decision: audit.Allowed,
		Rule:     "Preflight: " + c.preflight.String(),
		Err:      found.Err,
	}
	switch {
	case found.Verdict == probe.Here:
		return nil
	case found.Verdict == probe.Undecided:
		e.Decision = audit.Undecided
	case found.Verdict == probe.Elsewhere && enforce:
		e.Decision = audit.Refused
	}
	c.emit(e)
	if e.Decision == audit.Refused {
		return found.Err
	}
	return nil
}

// find makes the preflight, unless that was done just before the attempt.
func (c *conversation) find(ctx context.Context) probe.Result {
	if c.req.found != nil {
		return *c.req.found
	}
	return c.checker.Check(ctx, c.host(), c.cleanup.Later)
}

// diagnose joins the result of a preflight to the error of an attempt that
// failed at a challenge.
func (c *conversation) diagnose(ctx context.Context, err error) error {
	if c.preflight == preflight.Off || ctx.Err() != nil {
		return err
	}
	found := c.checker.Check(ctx, c.host(), c.cleanup.Later)
	if ctx.Err() != nil {
		return err // it was interrupted
	}
	return &diagnosis{err, found.Err}
}

// diagnosis is an attempt's error and the result of the preflight after it. If
// it is too long, the CA's reasons are cut, whose length the CA chooses, and
// not the result.
type diagnosis struct {
	err   error
	found error
}

// maxDiagnosis leaves room for what an *IssuanceError says before and after it.
const maxDiagnosis = 640

func (d *diagnosis) Error() string {
	tail := "; " + d.found.Error()
	return text.Line(text.Of(d.err), maxDiagnosis-len(tail)) + tail
}

func (d *diagnosis) Unwrap() []error { return []error{d.err, d.found} }
