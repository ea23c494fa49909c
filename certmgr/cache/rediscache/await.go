package rediscache

import (
	"context"
	"fmt"
)

// await returns what call returns, or the error of ctx once that has ended. A
// client notices the end of a context before it sends a request, and not while
// it waits for the reply: without Options.ContextTimeoutEnabled it waits for its
// ReadTimeout, and with it, it ends by the deadline but not by a cancellation.
//
// The goroutine outlives await by those times of the client, of which [New]
// requires that there are some. It must not use what belongs to the caller.
func await[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	results := make(chan result, 1)
	go func() {
		value, err := call()
		results <- result{value, err}
	}()
	select {
	case r := <-results:
		if r.err != nil && ctx.Err() != nil {
			return none, fmt.Errorf("%w: %w", ctx.Err(), r.err)
		}
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
