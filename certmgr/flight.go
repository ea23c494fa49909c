package certmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/nostall/nostall/certmgr/audit"
)

// flight makes sure that at most one call runs for a key, and knows which run
// and since when. A call runs in a goroutine of tasks, detached from whoever
// began it. singleflight runs it; waiting is done on the call's own channel,
// because singleflight keeps a channel for each waiter until the call ends,
// also for those who have left.
type flight[V any] struct {
	tasks  *tasks
	budget *waiters

	mu    sync.Mutex
	calls map[string]*call[V]

	// group runs the calls that begin now. Those that were canceled keep their own:
	// one that has yet to enter it would be taken for its successor, or that for it.
	group *singleflight.Group
}

// call is one execution. val and err may be read once done is closed.
type call[V any] struct {
	key    string
	since  time.Time
	done   chan struct{}
	val    V
	err    error
	budget *waiters
	end    context.CancelCauseFunc // ends fn's context
	group  *singleflight.Group     // that runs it

	waiting atomic.Int32
	stage   atomic.Pointer[audit.Stage] // issuances only
	reread  atomic.Int64                // when a visitor last had the cache read, in Unix nanoseconds
}

func newFlight[V any](t *tasks, budget *waiters) *flight[V] {
	return &flight[V]{tasks: t, budget: budget, calls: make(map[string]*call[V]), group: new(singleflight.Group)}
}

// running returns the call in flight for key, or nil.
func (f *flight[V]) running(key string) *call[V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[key]
}

// each calls f for every call in flight.
func (f *flight[V]) each(visit func(*call[V])) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		visit(c)
	}
}

// start returns the call in flight for key, or begins one with fn and reports
// that it did. fn must not panic or call runtime.Goexit: callbacks of the
// user's go through callOut.
func (f *flight[V]) start(key string, fn func(context.Context) (V, error)) (c *call[V], began bool, err error) {
	return f.startIf(key, nil, func(ctx context.Context, _ *call[V]) (V, error) { return fn(ctx) })
}

// startIf is start with a last check, made atomically with the decision to
// begin: if it returns an error nothing begins. It must not block.
func (f *flight[V]) startIf(key string, check func() error, fn func(context.Context, *call[V]) (V, error)) (c *call[V], began bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.calls[key]; c != nil {
		return c, false, nil
	}
	if check != nil {
		if err := check(); err != nil {
			return nil, false, err
		}
	}
	c = &call[V]{key: key, since: time.Now(), done: make(chan struct{}), budget: f.budget, group: f.group}
	ctx, end := context.WithCancelCause(f.tasks.ctx)
	c.end = end
	ok := f.tasks.Go(func(context.Context) {
		c.group.Do(key, func() (any, error) {
			defer f.finish(c)
			c.val, c.err = fn(ctx, c)
			return nil, nil
		})
	})
	if !ok {
		end(nil)
		return nil, false, ErrClosed
	}
	f.calls[key] = c // before finish, which needs the lock held here
	return c, true, nil
}

// finish takes the call off the books before it lets the waiters go, so that
// one who returns to the flight finds either this call's outcome or nothing.
func (f *flight[V]) finish(c *call[V]) {
	f.mu.Lock()
	f.strike(c)
	f.mu.Unlock()
	c.end(nil)
	close(c.done)
}

// strike takes a call off the books, unless it is off already. f.mu is held.
func (f *flight[V]) strike(c *call[V]) {
	if f.calls[c.key] == c {
		delete(f.calls, c.key)
		c.group.Forget(c.key)
	}
}

// cancel ends the context of each call for whose key why returns a cause. They are
// off the books at once: whoever comes now begins a new call and does not get
// their outcome. Those who wait for them do. why must not block.
func (f *flight[V]) cancel(why func(key string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, c := range f.calls {
		if cause := why(key); cause != nil {
			f.strike(c)
			c.end(cause)
			f.group = new(singleflight.Group)
		}
	}
}

// wait returns the call's outcome, or an error if ctx ends first. It is for
// calls that are bounded themselves. Whoever began the call may wait in any
// case, those who join it within the bounds of budget.
func (c *call[V]) wait(ctx context.Context, began bool) (V, error) {
	if !began && !isDone(c.done) {
		if err := c.budget.enter(&c.waiting); err != nil {
			var zero V
			return zero, err
		}
		defer c.budget.leave(&c.waiting)
	}
	return c.await(ctx, nil)
}

// errNotYet is returned by waitFor when its time is over.
var errNotYet = errors.New("certmgr: not done yet")

// waitFor is wait with a bound: after d it returns errNotYet.
func (c *call[V]) waitFor(ctx context.Context, d time.Duration) (V, error) {
	var zero V
	if isDone(c.done) {
		return c.val, c.err
	}
	if d <= 0 {
		return zero, errNotYet
	}
	if err := c.budget.enter(&c.waiting); err != nil {
		return zero, err
	}
	defer c.budget.leave(&c.waiting)
	timer := time.NewTimer(d)
	defer timer.Stop()
	return c.await(ctx, timer.C)
}

func (c *call[V]) await(ctx context.Context, timeout <-chan time.Time) (V, error) {
	var zero V
	select {
	case <-c.done:
		return c.val, c.err
	case <-timeout:
		return zero, errNotYet
	case <-ctx.Done():
		return zero, &gone{c.key, context.Cause(ctx)}
	}
}

// gone is the error of one who left before the call ended.
type gone struct {
	key   string
	cause error
}

func (e *gone) Error() string {
	return fmt.Sprintf("certmgr: %s: the handshake ended while it waited: %v", e.key, e.cause)
}

func (e *gone) Unwrap() error { return e.cause }

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (c *call[V]) setStage(s audit.Stage) { c.stage.Store(&s) }

func (c *call[V]) getStage() audit.Stage {
	if s := c.stage.Load(); s != nil {
		return *s
	}
	return audit.StageQueue
}

// waiters bounds the handshakes that wait, over all calls; half of the bound
// is the most that one call may have, so that one host cannot use it up.
type waiters struct {
	limit int

	mu sync.Mutex
	n  int
}

func (w *waiters) enter(perCall *atomic.Int32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n >= w.limit || int(perCall.Load()) >= max(1, w.limit/2) {
		return &refusal{kind: ErrBusy, text: fmt.Sprintf("%d handshakes wait already (MaxWaiting %d)", w.n, w.limit)}
	}
	w.n++
	perCall.Add(1)
	return nil
}

func (w *waiters) leave(perCall *atomic.Int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	perCall.Add(-1)
}

// waiting returns how many wait now.
func (w *waiters) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// mayReread reports whether a visitor may have the cache read again while the
// call runs, and counts it as done.
func (c *call[V]) mayReread(now time.Time) bool {
	last := c.reread.Load()
	since := now.UnixNano() - last
	if last == 0 {
		since = int64(now.Sub(c.since))
	}
	return (since < 0 || since >= int64(rereadEvery)) && c.reread.CompareAndSwap(last, now.UnixNano())
}
