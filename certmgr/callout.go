package certmgr

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// callouts runs one kind of the user's callbacks (cache reads, policies, ...).
// A callback may hang, ignore its context, panic or call runtime.Goexit: its
// caller still gets an answer in time. One that does not return keeps its key
// and its place, so that no second call is made for the same key and the
// number of goroutines lost to it is bounded.
type callouts struct {
	name  string // "Cache.Get", for errors and Close
	limit int
	grace time.Duration // to come back with an error of its own, after its context has ended

	mu      sync.Mutex
	running map[string]time.Time // by key, since when
	idle    chan struct{}        // made by wait; closed when nothing runs
}

// errCalloutPanic is wrapped by the error of a callback that panicked.
var errCalloutPanic = errors.New("callback panicked")

func newCallouts(name string, limit int) *callouts {
	return &callouts{name: name, limit: limit, running: make(map[string]time.Time)}
}

type calloutResult[T any] struct {
	val T
	err error
}

// callOut calls f under ctx and waits until f returns or ctx ends. Callers see
// to it that ctx has a deadline.
func callOut[T any](ctx context.Context, c *callouts, key string, f func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := c.begin(key); err != nil {
		return zero, err
	}
	done := make(chan calloutResult[T], 1)
	go func() {
		var res calloutResult[T]
		returned := false
		defer func() { // also after a panic or a Goexit
			if !returned {
				res.err = c.died(key, recover())
			}
			c.end(key)
			done <- res
		}()
		res.val, res.err = f(ctx)
		returned = true
	}()
	select {
	case res := <-done:
		return res.val, res.err
	case <-ctx.Done():
	}
	late := time.NewTimer(c.grace)
	defer late.Stop()
	select {
	case res := <-done:
		return res.val, res.err
	case <-late.C:
		return zero, fmt.Errorf("%s for %q did not return: %w", c.name, key, ctx.Err())
	}
}

// died is the error for a callback that panicked with r, or called
// runtime.Goexit if r is nil.
func (c *callouts) died(key string, r any) error {
	if r == nil {
		return fmt.Errorf("%s for %q: %w: runtime.Goexit", c.name, key, errCalloutPanic)
	}
	return fmt.Errorf("%s for %q: %w: %v\n%s", c.name, key, errCalloutPanic, r, debug.Stack())
}

func (c *callouts) begin(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since, ok := c.running[key]; ok {
		return &refusal{kind: ErrBusy, text: fmt.Sprintf("%s for %q has not returned", c.name, key), since: since}
	}
	if len(c.running) >= c.limit {
		return &refusal{kind: ErrBusy, text: fmt.Sprintf("%d calls of %s have not returned", len(c.running), c.name)}
	}
	c.running[key] = time.Now()
	return nil
}

func (c *callouts) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, key)
	if c.idle != nil && len(c.running) == 0 {
		close(c.idle)
		c.idle = nil
	}
}

// wait returns nil when no callback runs, or after ctx has ended an error that
// names those which do.
func (c *callouts) wait(ctx context.Context) error {
	c.mu.Lock()
	idle := c.idle
	if len(c.running) > 0 && idle == nil {
		idle = make(chan struct{})
		c.idle = idle
	}
	c.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) == 0 {
		return nil
	}
	keys := make([]string, 0, len(c.running))
	for key := range c.running {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return fmt.Errorf("certmgr: close: %d calls of %s ignored the end of their context: %s",
		len(keys), c.name, oneLine(fmt.Sprintf("%q", keys), maxErrorText))
}
