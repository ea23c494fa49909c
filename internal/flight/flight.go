package flight

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Flight makes sure that at most one call runs for a key at a time, and knows which
// run. A call is a task: it is detached from whoever began it. A Flight is safe for
// concurrent use.
//
// A singleflight.Group is what runs the calls, one for a key at a time. It forgets a
// call that ended or was canceled, so that the next one begins at once. Flight adds
// what a Group does not have:
//
//   - A way to leave. A Group keeps a channel for everybody who asked until the call
//     ends, also for those who left long ago. So only the one who begins a call is
//     known to the Group; everybody waits for Call.done, under a context and within
//     the bound of Waiters.
//   - A view of what is in flight. Running, Each, and the check of StartIf, which
//     is one step with the decision to begin, need the map of calls.
//   - Cancel. Each call has a context of its own.
type Flight[K comparable, V any] struct {
	tasks   *Tasks
	waiters *Waiters
	id      func(K) string

	mu    sync.Mutex // never held while a call runs, or anybody waits
	calls map[K]*Call[K, V]
	group singleflight.Group // mu is held for each of its methods, so that it knows the same calls
}

// New returns a Flight whose calls are tasks of t. id names a key for singleflight,
// which has strings; no two keys have the same name.
func New[K comparable, V any](t *Tasks, w *Waiters, id func(K) string) *Flight[K, V] {
	return &Flight[K, V]{tasks: t, waiters: w, id: id, calls: make(map[K]*Call[K, V])}
}

// Named returns a Flight whose keys are strings.
func Named[V any](t *Tasks, w *Waiters) *Flight[string, V] {
	return New[string, V](t, w, func(key string) string { return key })
}

// Call is one execution.
type Call[K comparable, V any] struct {
	Key   K
	Since time.Time // when it began
	About any       // what its owner noted about it

	waiters *Waiters
	waiting atomic.Int32
	end     context.CancelCauseFunc // ends its context
	done    chan struct{}
	val     V     // written before done is closed, read after that
	err     error // likewise
}

// Ticket is what one who asked for a call waits with.
type Ticket[K comparable, V any] struct {
	*Call[K, V]
	Began bool // the call began for this one, who did not join it
}

// Running returns the call in flight for key, or nil.
func (f *Flight[K, V]) Running(key K) *Call[K, V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[key]
}

// Each calls visit for every call in flight. visit must not block.
func (f *Flight[K, V]) Each(visit func(*Call[K, V])) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		visit(c)
	}
}

// Start joins the call in flight for key, or begins one with fn. fn must not panic or
// call runtime.Goexit: callbacks of the user's go through CallOut. The error is
// ErrClosed.
func (f *Flight[K, V]) Start(key K, fn func(context.Context) (V, error)) (Ticket[K, V], error) {
	return f.StartIf(key, nil, nil, fn)
}

// StartIf is Start with a last check, made atomically with the decision to begin: if
// it returns an error nothing begins. It must not block. about becomes Call.About.
func (f *Flight[K, V]) StartIf(key K, check func() error, about any, fn func(context.Context) (V, error)) (Ticket[K, V], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.calls[key]; c != nil {
		return Ticket[K, V]{Call: c}, nil
	}
	if check != nil {
		if err := check(); err != nil {
			return Ticket[K, V]{}, err
		}
	}
	if !f.tasks.begin() {
		return Ticket[K, V]{}, ErrClosed
	}
	c := &Call[K, V]{
		Key:     key,
		Since:   time.Now(),
		About:   about,
		waiters: f.waiters,
		done:    make(chan struct{}),
	}
	ctx, end := context.WithCancelCause(f.tasks.ctx)
	c.end = end
	f.calls[key] = c
	// The Group has the call before it has a goroutine, so that a Cancel before that
	// finds it there.
	f.group.DoChan(f.id(key), func() (any, error) {
		defer f.tasks.pending.Done()
		defer f.finish(c)
		c.val, c.err = fn(ctx)
		return nil, nil
	})
	return Ticket[K, V]{Call: c, Began: true}, nil
}

// finish takes the call off the books before it lets the waiters go, so that one who
// returns to the flight finds either this call's outcome or nothing.
func (f *Flight[K, V]) finish(c *Call[K, V]) {
	f.mu.Lock()
	if f.calls[c.Key] == c {
		f.forget(c)
	}
	f.mu.Unlock()
	c.end(nil)
	close(c.done)
}

// forget takes a call off the books. f.mu is held.
func (f *Flight[K, V]) forget(c *Call[K, V]) {
	delete(f.calls, c.Key)
	f.group.Forget(f.id(c.Key))
}

// Cancel ends the context of each call for whose key why returns a cause. They are
// off the books at once: whoever comes now begins a new call and does not get their
// outcome. Those who wait for them do. why must not block.
func (f *Flight[K, V]) Cancel(why func(K) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, c := range f.calls {
		if cause := why(key); cause != nil {
			f.forget(c)
			c.end(cause)
		}
	}
}

// Waiting returns how many wait within the bound of Waiters.
func (c *Call[K, V]) Waiting() int { return int(c.waiting.Load()) }

// Ended reports whether the call has an outcome.
func (c *Call[K, V]) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Wait returns the call's outcome, or a *Left if ctx ends first. It is for calls that
// are bounded themselves. Whoever began the call may wait in any case, those who
// joined it within the bound of Waiters.
func (t Ticket[K, V]) Wait(ctx context.Context) (V, error) {
	if !t.Began && !t.Ended() {
		if err := t.waiters.enter(&t.waiting); err != nil {
			var zero V
			return zero, err
		}
		defer t.waiters.leave(&t.waiting)
	}
	return t.Await(ctx)
}

// Await is Wait without a bound, for those whose number has another one.
func (c *Call[K, V]) Await(ctx context.Context) (V, error) { return c.await(ctx, nil) }

// WaitFor waits for d at most, and within the bound of Waiters. After d it returns
// ErrNotYet.
func (c *Call[K, V]) WaitFor(ctx context.Context, d time.Duration) (V, error) {
	var zero V
	if c.Ended() {
		return c.val, c.err
	}
	if d <= 0 {
		return zero, ErrNotYet
	}
	if err := c.waiters.enter(&c.waiting); err != nil {
		return zero, err
	}
	defer c.waiters.leave(&c.waiting)
	timer := time.NewTimer(d)
	defer timer.Stop()
	return c.await(ctx, timer.C)
}

func (c *Call[K, V]) await(ctx context.Context, timeout <-chan time.Time) (V, error) {
	var zero V
	select {
	case <-c.done:
		return c.val, c.err
	case <-timeout:
		return zero, ErrNotYet
	case <-ctx.Done():
		return zero, &Left{c.Key, context.Cause(ctx)}
	}
}
