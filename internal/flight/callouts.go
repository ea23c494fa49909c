package flight

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Callouts runs one kind of user callback, such as reads of a cache. A callback
// may hang, ignore its context, panic or call runtime.Goexit; its caller still
// gets an answer in time. A callback that does not return keeps its key and its
// slot. So no second call is made for the same key, and the number of leaked
// goroutines is bounded.
//
// The next caller for a key waits, within its own context, until the previous
// call has returned. Callers take turns in order of arrival. So a write that
// was given up cannot overwrite a later one, and a call that merely timed out
// does not block the next. If a caller's context ends first, it gets ErrBusy
// and its call is never made: a write then leaves the entry as it was.
//
// Where handshakes wait, stuckAfter limits the wait. A call that has run for
// longer may never return: callers for its key are refused at once until it
// does.
//
// Callouts is safe for concurrent use.
type Callouts struct {
	name  string // "Cache.Get", for errors
	limit int    // of calls, and of callers waiting for their key

	grace      time.Duration // for a callback to return its own error after its context has ended
	stuckAfter time.Duration // age at which a call is no longer waited for; zero means never
	onDeath    func(name string, d *Death)

	mu      sync.Mutex
	running map[string]*callout // by key
	waiting int                 // length of all queues

	pending Pending // counts the running calls
}

// callout is a running call.
type callout struct {
	since time.Time
	queue []chan struct{} // callers waiting for its key; closed when their turn has come
}

// NewCallouts returns Callouts for one kind of callback. name appears in
// errors. limit bounds the running calls, and separately the callers that wait
// for their key.
func NewCallouts(name string, limit int) *Callouts {
	return &Callouts{name: name, limit: limit, running: make(map[string]*callout)}
}

// Grace is how long a callback that heeds its context may take to return after
// it has ended.
const Grace = 100 * time.Millisecond

// WithGrace sets how long callbacks may take to return their own error after
// their context has ended. It returns c.
func (c *Callouts) WithGrace(grace time.Duration) *Callouts {
	c.grace = grace
	return c
}

// FailFast sets the age at which a call counts as stuck and is no longer waited
// for. It also sets a grace, so that a callback which heeds its context does
// not count as stuck. It returns c.
func (c *Callouts) FailFast(stuckAfter time.Duration) *Callouts {
	c.stuckAfter = stuckAfter
	return c.WithGrace(Grace)
}

// OnDeath sets what is called, in the callback's goroutine, when a callback has
// panicked or called runtime.Goexit, with the name of c. It must not block. It
// returns c.
func (c *Callouts) OnDeath(f func(name string, d *Death)) *Callouts {
	c.onDeath = f
	return c
}

type calloutResult[T any] struct {
	val T
	err error
}

// CallOut waits for key's turn, calls f with ctx, and waits until f returns or
// ctx ends. ctx should have a deadline. If f was not called, the error wraps
// ErrBusy.
func CallOut[T any](ctx context.Context, c *Callouts, key string, f func(context.Context) (T, error)) (T, error) {
	return CallOutThen(ctx, c, key, f, nil)
}

// CallOutThen is CallOut, and calls then when f has ended, however that was, in
// the goroutine of f. The caller has the outcome by then, and key stays taken:
// neither the next one for it nor Wait finds it free before then returns. If f
// was not called, then is not called either. It must not panic.
func CallOutThen[T any](ctx context.Context, c *Callouts, key string, f func(context.Context) (T, error), then func()) (T, error) {
	var zero T
	if err := c.begin(ctx, key); err != nil {
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
			if then == nil {
				c.end(key) // first, so that the caller finds key free
				done <- res
				return
			}
			defer c.end(key)
			done <- res
			then()
		}()
		res.val, res.err = f(ctx)
		examine(res.err)
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

// begin waits for its turn and takes key.
func (c *Callouts) begin(ctx context.Context, key string) error {
	turn, err := c.enter(key)
	if turn == nil {
		return err
	}
	for left := c.untilStuck(key); left > 0; left = c.untilStuck(key) {
		if awaitTurn(ctx, turn, left) {
			break
		}
	}
	return c.leave(ctx, key, turn)
}

// awaitTurn waits for turn or the end of ctx. It returns false if neither came
// within d.
func awaitTurn(ctx context.Context, turn <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-turn:
	case <-ctx.Done():
	case <-timer.C:
		return false
	}
	return true
}

// enter takes key if it is free and returns nil, or joins its queue and returns
// its turn.
func (c *Callouts) enter(key string) (turn chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.running[key]
	switch {
	case before == nil && len(c.running) >= c.limit:
		return nil, &Busy{What: fmt.Sprintf("%d calls of %s have not returned", len(c.running), c.name)}
	case before == nil:
		c.running[key] = &callout{since: time.Now()}
		c.pending.Add()
		return nil, nil
	case c.waiting >= c.limit:
		return nil, &Busy{What: fmt.Sprintf("%d calls of %s wait for others to return", c.waiting, c.name)}
	}
	turn = make(chan struct{})
	before.queue = append(before.queue, turn)
	c.waiting++
	return turn, nil
}

// untilStuck returns how long the running call of key may still be waited for.
// If it is zero or less, the call is stuck.
func (c *Callouts) untilStuck(key string) time.Duration {
	if c.stuckAfter == 0 {
		return math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuckAfter - time.Since(c.running[key].since)
}

// leave ends the wait for turn. It keeps key, or returns an error if key is not
// free or ctx has ended.
func (c *Callouts) leave(ctx context.Context, key string, turn chan struct{}) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.running[key]
	if i := slices.Index(now.queue, turn); i >= 0 {
		now.queue = slices.Delete(now.queue, i, i+1)
		c.waiting--
		return c.occupied(key, now, ctx.Err())
	}
	if ctx.Err() == nil {
		return nil
	}
	c.pass(key)
	return c.occupied(key, now, ctx.Err())
}

// occupied returns the error that key is not free. ended is why the wait ended,
// or nil if the running call is stuck.
func (c *Callouts) occupied(key string, now *callout, ended error) error {
	r := &Busy{What: fmt.Sprintf("%s for %q has not returned", c.name, key), Since: now.since}
	if ended != nil {
		r.Cause = fmt.Errorf("the next call was not made: %w", ended)
	}
	return r
}

func (c *Callouts) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass(key)
}

// pass gives key to the next caller in its queue, or frees it. c.mu is held.
func (c *Callouts) pass(key string) {
	if queue := c.running[key].queue; len(queue) > 0 {
		c.running[key] = &callout{since: time.Now(), queue: queue[1:]}
		c.waiting--
		close(queue[0])
		return
	}
	delete(c.running, key)
	c.pending.Done()
}

// Wait waits until no callback is running. If ctx ends first, the error names
// the running ones.
func (c *Callouts) Wait(ctx context.Context) error {
	if c.pending.Wait(ctx) == 0 {
		return nil
	}
	c.mu.Lock()
	keys := slices.Sorted(maps.Keys(c.running))
	c.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	return notReturned(c.name, keys)
}
