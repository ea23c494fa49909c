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

func (c *conversation) pollAuthorization(ctx context.Context, url string) (*acme.Authorization, error) {
	rule := pollRule{first: pollFirst, maxFails: pollMaxFails, isFatal: isDenied}
	return poll(ctx, rule, func(ctx context.Context) (*acme.Authorization, bool, error) {
		z, err := c.client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, false, acmeclient.Cause(err)
		}
		return z, z.Status != acme.StatusPending && z.Status != acme.StatusProcessing, nil
	})
}

// isDenied reports whether the CA refuses, and does not merely fail.
func isDenied(err error) bool {
	problem, ok := errors.AsType[*acme.Error](err)
	return ok && problem.StatusCode < http.StatusInternalServerError
}

// Polling starts with short waits, because many CAs are done at once, and slows
// down.
const (
	pollFirst    = 100 * time.Millisecond
	pollMost     = 10 * time.Second
	pollMaxFails = 2 // consecutive failures, each of which was retried
)

// pollRule says how to poll.
type pollRule struct {
	first    time.Duration    // the first wait; 0 if the result may exist already
	maxFails int              // consecutive failures
	failWait time.Duration    // the least wait after the first of them; it grows as they do
	isFatal  func(error) bool // reports whether a failure ends it at once
}

// poll calls fetch until done. The waits grow from the first, and a longer
// Retry-After is obeyed up to pollMost; with first 0, Retry-After does not apply to
// the first call. Errors are those of fetch, or that ctx has ended.
func poll[T any](ctx context.Context, rule pollRule, fetch func(context.Context) (T, bool, error)) (T, error) {
	var zero T
	trace := acmeclient.TraceOf(ctx)
	fails := 0
	for wait := rule.first; ; wait = min(max(wait*8/5, pollFirst), pollMost) {
		if wait > 0 {
			if err := flight.Sleep(ctx, min(max(wait, trace.RetryAfter()), pollMost)); err != nil {
				return zero, fmt.Errorf("the CA reached no result: %w", context.Cause(ctx))
			}
		}
		v, done, err := fetch(ctx)
		if done && err == nil {
			return v, nil
		}
		if err == nil {
			fails = 0
			continue
		}
		if fails++; fails >= rule.maxFails || ctx.Err() != nil || rule.isFatal(err) {
			return zero, err
		}
		wait = max(wait, rule.failWait*time.Duration(fails))
	}
}
