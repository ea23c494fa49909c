package order

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

func (c *conversation) pollAuthorization(ctx context.Context, url string) (*acme.Authorization, error) {
	return poll(ctx, pollFirst, func(ctx context.Context) (*acme.Authorization, bool, error) {
		z, err := c.client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, false, err
		}
		return z, z.Status != acme.StatusPending && z.Status != acme.StatusProcessing, nil
	})
}

// pollOrder fetches an order until its status is not one of passing.
func (c *conversation) pollOrder(ctx context.Context, url string, first time.Duration, passing ...string) (*acme.Order, error) {
	return poll(ctx, first, func(ctx context.Context) (*acme.Order, bool, error) {
		o, err := c.client.GetOrder(ctx, url)
		if err != nil {
			return nil, false, err
		}
		return o, !slices.Contains(passing, o.Status), nil
	})
}

// Polling starts with short waits, because many CAs are done at once, and slows
// down.
const (
	pollFirst    = 100 * time.Millisecond
	pollMost     = 10 * time.Second
	pollMaxFails = 2 // consecutive failures, each of which was retried
)

// poll calls fetch until done. The waits grow from first, and a longer
// Retry-After is obeyed up to pollMost; with first 0 the result exists already,
// and Retry-After does not apply. A few unusable replies are tolerated, but not
// a refusal of the CA.
func poll[T any](ctx context.Context, first time.Duration, fetch func(context.Context) (T, bool, error)) (T, error) {
	var zero T
	trace := acmeclient.TraceOf(ctx)
	fails := 0
	for wait := first; ; wait = min(max(wait*8/5, pollFirst), pollMost) {
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
		e, refused := errors.AsType[*acme.Error](err)
		if fails++; fails >= pollMaxFails || ctx.Err() != nil || refused && e.StatusCode < http.StatusInternalServerError {
			return zero, acmeclient.Cause(err)
		}
	}
}
