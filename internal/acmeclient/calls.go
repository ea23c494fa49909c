package acmeclient

import (
	"context"
	"fmt"
	"sync"

	"github.com/nostall/nostall/internal/flight"
)

// maxStuck is the largest number of stuck calls: those that were given up but
// have not returned, because the user's transport ignores contexts.
const maxStuck = 64

// calls tracks the calls of the user's HTTP client.
type calls struct {
	pending flight.Pending // those that have not returned

	mu    sync.Mutex // never held while a call runs
	stuck int        // those among pending that exchange gave up
}

// oneCall is one call. The mutex of calls guards its fields.
type oneCall struct {
	calls    *calls
	returned bool
	givenUp  bool
}

// begin registers a call. It fails while too many calls are stuck.
func (c *calls) begin() (*oneCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck >= maxStuck {
		return nil, fmt.Errorf("%d requests have not returned after their time-out: the HTTP client's transport ignores contexts", c.stuck)
	}
	c.pending.Add()
	return &oneCall{calls: c}, nil
}

// end records that the call returned.
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

// giveUp records that no caller waits for the call any more.
func (o *oneCall) giveUp() {
	c := o.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	if !o.returned {
		o.givenUp = true
		c.stuck++
	}
}

// Close waits until no call of the HTTP client is running, and closes the idle
// connections that are not the user's. If ctx ends first, the error says how
// many calls are running.
func (ca *CA) Close(ctx context.Context) error {
	defer ca.defaults.closeIdle()
	if n := ca.calls.pending.Wait(ctx); n > 0 {
		return fmt.Errorf("%d requests to %s ignored the end of their context: %w", n, ca.cfg.DirectoryURL, ctx.Err())
	}
	return nil
}
