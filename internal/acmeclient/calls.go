package acmeclient

import (
	"context"
	"fmt"
	"sync"

	"github.com/nostall/nostall/internal/flight"
)

// maxStuck bounds the calls of the user's HTTP client that were given up, as its
// transport ignores the end of a context, and have not returned yet.
const maxStuck = 64

// calls keeps the books of calls of the user's HTTP client.
type calls struct {
	pending flight.Pending // those that have not returned

	mu    sync.Mutex // never held while a call runs
	stuck int        // of pending: given up by exchange
}

// oneCall is one of them. Its fields are guarded by the mutex of calls.
type oneCall struct {
	calls    *calls
	returned bool
	givenUp  bool
}

// begin refuses once too many have not returned.
func (c *calls) begin() (*oneCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck >= maxStuck {
		return nil, fmt.Errorf("%d requests have not returned though their time is over: the HTTP client's transport ignores contexts", c.stuck)
	}
	c.pending.Add()
	return &oneCall{calls: c}, nil
}

// end notes that the call returned.
func (o *oneCall) end() {
	c := o.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	o.returned = true
	if o.givenUp {
		c.stuck--
	}
	c.pending.Done()
}

// giveUp notes that nobody waits for the call any more.
func (o *oneCall) giveUp() {
	c := o.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	if !o.returned {
		o.givenUp = true
		c.stuck++
	}
}

// Wait returns when no call of the user's HTTP client is running, or when ctx has
// ended an error that says how many are.
func (ca *CA) Wait(ctx context.Context) error {
	if n := ca.calls.pending.Wait(ctx); n > 0 {
		return fmt.Errorf("%d requests to %s ignored the end of their context: %w", n, ca.cfg.DirectoryURL, ctx.Err())
	}
	return nil
}
