package certmgr

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// callouts runs one kind of the user's callbacks (cache reads, policies, ...).
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
type callouts struct {
	name  string // "Cache.Get", for errors and Close
	limit int    // of calls, and of those who wait for their key

	grace      time.Duration // to come back with an error of its own, after its context has ended
	stuckAfter time.Duration // age of a call from which on it is not waited for; zero: none

	mu      sync.Mutex
	running map[string]*callout // by key
	waiting int                 // in the queues of all of them
	idle    chan struct{}       // made by wait; closed when nothing runs
}

// callout is a call under way.
type callout struct {
	since time.Time
	queue []chan struct{} // of those who wait for its key; closed when their turn has come
}

func newCallouts(name string, limit int) *callouts {
	return &callouts{name: name, limit: limit, running: make(map[string]*callout)}
}

// calloutGrace is what a callback that heeds its context needs to return.
const calloutGrace = 100 * time.Millisecond

// failFast sets stuckAfter, and a grace that spares a callback which heeds its
// context from being taken for stuck.
func (c *callouts) failFast(stuckAfter time.Duration) *callouts {
	c.grace, c.stuckAfter = calloutGrace, stuckAfter
	return c
}

type calloutResult[T any] struct {
	val T
	err error
}

// callOut calls f under ctx, when it is key's turn, and waits until f returns or
// ctx ends. Callers see to it that ctx has a deadline. If f was not called the
// error wraps ErrBusy.
func callOut[T any](ctx context.Context, c *callouts, key string, f func(context.Context) (T, error)) (T, error) {
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
func (c *callouts) begin(ctx context.Context, key string) error {
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
func (c *callouts) enter(key string) (turn chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.running[key]
	switch {
	case before == nil && len(c.running) >= c.limit:
		return nil, &refusal{kind: ErrBusy, text: fmt.Sprintf("%d calls of %s have not returned", len(c.running), c.name)}
	case before == nil:
		c.running[key] = &callout{since: time.Now()}
		return nil, nil
	case c.waiting >= c.limit:
		return nil, &refusal{kind: ErrBusy, text: fmt.Sprintf("%d calls of %s wait for others to return", c.waiting, c.name)}
	}
	turn = make(chan struct{})
	before.queue = append(before.queue, turn)
	c.waiting++
	return turn, nil
}

// untilStuck returns how long the call that has key may be waited for: not at all
// if it is zero or less.
func (c *callouts) untilStuck(key string) time.Duration {
	if c.stuckAfter == 0 {
		return math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuckAfter - time.Since(c.running[key].since)
}

// leave ends the wait for turn: with key, or with an error if it is not free or
// too late for its call.
func (c *callouts) leave(ctx context.Context, key string, turn chan struct{}) error {
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
func (c *callouts) occupied(key string, now *callout, ended error) error {
	r := &refusal{kind: ErrBusy, text: fmt.Sprintf("%s for %q has not returned", c.name, key), since: now.since}
	if ended != nil {
		r.cause = fmt.Errorf("what waited for it was not called: %w", ended)
	}
	return r
}

func (c *callouts) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass(key)
}

// pass gives key to the next one who waits for it, or frees it. c.mu is held.
func (c *callouts) pass(key string) {
	if queue := c.running[key].queue; len(queue) > 0 {
		c.running[key] = &callout{since: time.Now(), queue: queue[1:]}
		c.waiting--
		close(queue[0])
		return
	}
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
	return fmt.Errorf("certmgr: close: %d calls of %s have not returned: %s",
		len(keys), c.name, text.OneLine(fmt.Sprintf("%q", keys), text.MaxError))
}
