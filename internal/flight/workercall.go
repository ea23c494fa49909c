package flight

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// workerCall is a call of Workers, and its context.
type workerCall[V any] struct {
	mu      *sync.Mutex // of Workers
	cfg     *WorkersConfig[V]
	key     string
	since   time.Time
	waiting atomic.Int32 // callers that joined

	// answer is the worker's. It is read after the call has been concluded
	// without a failure.
	answer V

	// These are guarded by mu. failure can be read after a wake-up.
	from      any // Caller.For; nil once concluded
	concluded bool
	failure   error // why there is no answer
	waiters   wakeUp

	ended bool // the callback has

	made atomic.Pointer[madeContext] // nil until it is needed
}

// madeContext does the work of a call's context.
type madeContext struct {
	context.Context
	cancel context.CancelFunc
}

// seat is where the caller that began a call waits.
type seat struct {
	done  chan struct{} // receives once
	timer *time.Timer   // nil until needed
}

// wakeUp is whom to tell that a call has been concluded.
type wakeUp struct {
	seat *seat         // of the caller that began it, while that waits
	done chan struct{} // for those that joined; nil if there are none
}

func (w wakeUp) all() {
	if w.seat != nil {
		w.seat.done <- struct{}{} // never blocks
	}
	if w.done != nil {
		close(w.done)
	}
}

// conclude sets the outcome, unless that is known already. mu is held.
func (c *workerCall[V]) conclude(failure error) wakeUp {
	if c.concluded {
		return wakeUp{}
	}
	c.concluded, c.failure = true, failure
	c.from = nil // the caller's objects must not outlive the call with its context
	wake := c.waiters
	c.waiters = wakeUp{}
	return wake
}

// join returns a channel that is closed when the call has been concluded, or an
// error if it has been given up. mu is held.
func (c *workerCall[V]) join() (<-chan struct{}, error) {
	if c.concluded {
		return nil, &NoAnswer{&Busy{What: fmt.Sprintf("%s for %q has not returned", c.cfg.Name, c.key), Since: c.since}}
	}
	if c.waiters.done == nil {
		c.waiters.done = make(chan struct{})
	}
	return c.waiters.done, nil
}

// outcome returns the outcome of a call that has been concluded.
func (c *workerCall[V]) outcome() (answer V, err error) {
	if c.failure != nil {
		return answer, c.failure
	}
	return c.answer, nil
}

// wait waits for a call that the caller joined.
func (c *workerCall[V]) wait(ctx context.Context, done <-chan struct{}, until time.Time, limit *Waiters) (answer V, err error) {
	if limit != nil {
		if err := limit.enter(&c.waiting); err != nil {
			return answer, err
		}
		defer limit.leave(&c.waiting)
	}
	var late <-chan time.Time
	if c.outlasts(until) {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-done:
		return c.outcome()
	case <-late:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return answer, &Left{Key: c.key, Cause: err}
}

// await waits in a seat for a call that the caller began.
func (c *workerCall[V]) await(ctx context.Context, here *seat, until time.Time) (answer V, err error) {
	var late <-chan time.Time
	if c.outlasts(until) {
		late = here.after(time.Until(until))
		defer here.timer.Stop()
	}
	select {
	case <-here.done:
		return c.outcome()
	case <-late:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if c.leave(here) {
		return answer, &Left{Key: c.key, Cause: err, Began: true}
	}
	<-here.done // at the last moment
	return c.outcome()
}

// leave gives up a seat. It returns false if the call has been concluded.
func (c *workerCall[V]) leave(here *seat) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.concluded {
		return false
	}
	c.waiters.seat = nil
	return true
}

// outlasts reports whether the call may take longer than until, which may be
// zero.
func (c *workerCall[V]) outlasts(until time.Time) bool {
	return !until.IsZero() && until.Before(c.since.Add(c.cfg.Timeout+Grace))
}

// after returns a channel that receives after d.
func (s *seat) after(d time.Duration) <-chan time.Time {
	if s.timer == nil {
		s.timer = time.NewTimer(d)
	} else {
		s.timer.Reset(d)
	}
	return s.timer.C
}

var _ context.Context = (*workerCall[int])(nil)

// Deadline returns the end of the call's time.
func (c *workerCall[V]) Deadline() (time.Time, bool) { return c.since.Add(c.cfg.Timeout), true }

// Done returns a channel that is closed when the call's time is over, it has
// returned, or Tasks is closed.
func (c *workerCall[V]) Done() <-chan struct{} { return c.real().Done() }

// Err returns why the context has ended, or nil.
func (c *workerCall[V]) Err() error { return c.real().Err() }

// Value returns a value of WorkersConfig.Value or Caller.For.
func (c *workerCall[V]) Value(key any) any {
	if k := c.cfg.ForKey; k != nil && key == k {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.from
	}
	if v := c.cfg.Value(key, &c.answer); v != nil {
		return v
	}
	return c.real().Value(key)
}

// real returns the context that does the work.
func (c *workerCall[V]) real() context.Context {
	if m := c.made.Load(); m != nil {
		return m
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.made.Load(); m != nil {
		return m
	}
	deadline, _ := c.Deadline()
	m := new(madeContext)
	m.Context, m.cancel = context.WithDeadline(c.cfg.Tasks.ctx, deadline)
	if c.ended {
		m.cancel()
	}
	c.made.Store(m)
	return m
}
