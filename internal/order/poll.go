package order

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// isDenied reports whether the CA refuses, and does not merely fail.
func isDenied(err error) bool {
	problem, ok := errors.AsType[*acme.Error](err)
	return ok && problem.StatusCode < http.StatusInternalServerError
}

// Polling starts with short waits, because many CAs are done soon, and slows
// down.
const (
	pollFirst    = 50 * time.Millisecond
	pollBrisk    = 250 * time.Millisecond // shorter waits grow slowly, so that a fast CA loses little time
	pollMost     = 10 * time.Second
	pollMaxFails = 2 // consecutive failures, each of which was retried
)

// pollRule says how to poll.
type pollRule struct {
	first    time.Duration    // the first wait; 0 if the result may exist already
	maxFails int              // consecutive failures
	failWait time.Duration    // the least wait after the first of them; it grows as they do
	isFatal  func(error) bool // reports whether a failure ends it at once
	stays    bool             // a Retry-After of more than pollMost does not end it
}

// poll calls fetch until done. The waits grow from the first, and a longer
// Retry-After is obeyed. If it is longer than pollMost, it ends the polling with
// a *WaitError, unless the rule says otherwise; with first 0, Retry-After does not
// apply to the first call. Other errors are those of fetch, or that ctx has ended.
func poll[T any](ctx context.Context, rule pollRule, fetch func(context.Context) (T, bool, error)) (T, error) {
	var zero T
	var last error
	trace := acmeclient.TraceOf(ctx)
	fails := 0
	for wait := rule.first; ; wait = nextWait(wait) {
		if wait > 0 {
			asked := trace.RetryAfter()
			if asked > pollMost && !rule.stays {
				return zero, &WaitError{Asked: asked, Err: last}
			}
			if err := flight.Sleep(ctx, min(max(wait, asked), pollMost)); err != nil {
				err = fmt.Errorf("the CA reached no result: %w", context.Cause(ctx))
				if asked > pollMost {
					err = &WaitError{Asked: asked, Err: err}
				}
				return zero, err
			}
		}
		v, done, err := fetch(ctx)
		if last = err; err == nil {
			if done {
				return v, nil
			}
			fails = 0
			continue
		}
		if fails++; fails >= rule.maxFails || ctx.Err() != nil || rule.isFatal(err) {
			return zero, err
		}
		wait = max(wait, rule.failWait*time.Duration(fails))
	}
}

// nextWait returns the wait that follows one of d.
func nextWait(d time.Duration) time.Duration {
	if d < pollBrisk {
		return max(d*5/4, pollFirst)
	}
	return min(d*8/5, pollMost)
}

// WaitError is the end of a conversation because the CA asks for a longer wait
// than a conversation may have. The order is kept.
type WaitError struct {
	Asked time.Duration // the CA's Retry-After
	Err   error         // what else is known; may be nil
}

// maxTrustedWait is the longest wait for an order's progress that the CA is taken at
// its word for. ZeroSSL has said a day while it was processing an order that it
// finished within seconds.
const maxTrustedWait = time.Hour

// Wait returns how long to wait before the order is resumed, or 0 if that is for
// the caller to say.
func (e *WaitError) Wait() time.Duration {
	if e.Asked > maxTrustedWait {
		return 0
	}
	return e.Asked
}

// Error returns one line.
func (e *WaitError) Error() string {
	s := fmt.Sprintf("the CA is not done, and asks to come back in %v", e.Asked)
	if e.Err != nil {
		return s + ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what else is known.
func (e *WaitError) Unwrap() error { return e.Err }
