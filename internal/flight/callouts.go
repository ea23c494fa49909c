package flight

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// Callouts runs one kind of the user's callbacks (reads of a cache, say).
// A callback may hang, ignore its context, panic or call runtime.Goexit: its
// caller still gets an answer in time. One that does not return keeps its key
// and its place, so that no second call is made for the same key and the
// number of goroutines lost to it is bounded.
//
// Who comes next for a key waits, within its own context, until the call before
// has returned, and makes its own then, in the order of coming. So a write that
// was given up cannot land on top of a later one, and what has merely timed out
// does not refuse its successor. One whose context ends first is refused with
// ErrBusy, and its call is never made: a write leaves the entry as it was.
//
// Where visitors wait, stuckAfter is the time that a call is given. One that is
// out for longer may never return, and is not waited for again: who comes then
// is refused at once, until it does return.
//
// Callouts is safe for concurrent use.
type Callouts struct {
	name  string // "Cache.Get", for errors
	limit int    // of calls, and of those who wait for their key

	grace      time.Duration // to come back with an error of its own, after its context has ended
	stuckAfter time.Duration // age of a call from which on it is not waited for; zero: none

	mu      sync.Mutex
	running map[string]*callout // by key
	waiting int                 // in the queues of all of them

	pending Pending // as many as are running
}

// callout is a call under way.
type callout struct {
	since time.Time
	queue []chan struct{} // of those who wait for its key; closed when their turn has come
}

// NewCallouts returns the bound for one kind of callback, whose name errors have.
// limit is that of calls, and of those who wait for their key.
func NewCallouts(name string, limit int) *Callouts {
	return &Callouts{name: name, limit: limit, running: make(map[string]*callout)}
}

// Grace is what a callback that heeds its context needs to return.
const Grace = 100 * time.Millisecond

// WithGrace gives callbacks that long to come back with an error of their own after
// their context has ended. It returns c.
func (c *Callouts) WithGrace(grace time.Duration) *Callouts {
	c.grace = grace
	return c
}

// FailFast sets the age from which on a call is not waited for, and a grace that
// spares a callback which heeds its context from being taken for stuck. It returns c.
func (c *Callouts) FailFast(stuckAfter time.Duration) *Callouts {
	c.stuckAfter = stuckAfter
	return c.WithGrace(Grace)
}

type calloutResult[T any] struct {
	val T
	err error
}

// CallOut calls f under ctx, when it is key's turn, and waits until f returns or
// ctx ends. Callers see to it that ctx has a deadline. If f was not called the
// error wraps ErrBusy.
func CallOut[T any](ctx context.Context, c *Callouts, key string, f func(context.Context) (T, error)) (T, error) {
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

// begin takes key when its turn has come.
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

// awaitTurn reports false after d, unless turn or the end of ctx came first.
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

// enter takes key and returns neither turn nor error, or joins its queue and
// returns the turn in it.
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

// untilStuck returns how long the call that has key may be waited for: not at all
// if it is zero or less.
func (c *Callouts) untilStuck(key string) time.Duration {
	if c.stuckAfter == 0 {
		return math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuckAfter - time.Since(c.running[key].since)
}

// leave ends the wait for turn: with key, or with an error if it is not free or
// too late for its call.
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

// occupied says that key is not free; ended is why it is not waited for any longer,
// or nil if it is stuck.
func (c *Callouts) occupied(key string, now *callout, ended error) error {
	r := &Busy{What: fmt.Sprintf("%s for %q has not returned", c.name, key), Since: now.since}
	if ended != nil {
		r.Cause = fmt.Errorf("what waited for it was not called: %w", ended)
	}
	return r
}

func (c *Callouts) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass(key)
}

// pass gives key to the next one who waits for it, or frees it. c.mu is held.
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

// Wait returns nil when no callback runs, or after ctx has ended an error that
// names those which do.
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
	return fmt.Errorf("certmgr: close: %d calls of %s have not returned: %s",
		len(keys), c.name, text.OneLine(fmt.Sprintf("%q", keys), text.MaxError))
}
