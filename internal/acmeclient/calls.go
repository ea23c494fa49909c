package acmeclient

import (
	"context"
	"fmt"
	"sync"
)

// maxStuck bounds the calls of the user's HTTP client that were given up, as its
// transport ignores the end of a context, and have not returned yet.
const maxStuck = 64

// calls keeps the books of calls of the user's HTTP client.
type calls struct {
	mu      sync.Mutex // never held while a call runs
	running int
	stuck   int           // of running: given up by exchange
	idle    chan struct{} // made by wait; closed when none runs
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
	c.running++
	return &oneCall{calls: c}, nil
}

// end notes that the call returned.
func (o *oneCall) end() {
	c := o.calls
	c.mu.Lock()
	defer c.mu.Unlock()
	o.returned = true
	c.running--
	if o.givenUp {
		c.stuck--
	}
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
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
	c := &ca.calls
	c.mu.Lock()
	if c.running == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == 0 {
		return nil
	}
	return fmt.Errorf("%d requests to %s ignored the end of their context: %w", c.running, ca.cfg.DirectoryURL, ctx.Err())
}
