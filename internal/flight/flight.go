package flight

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Flight runs at most one call for a key at a time, and knows which are in
// flight. A call is a task, detached from its first caller. A Flight is safe
// for concurrent use.
//
// A singleflight.Group runs the calls that need a goroutine. It forgets a call
// that ended or was canceled, so that the next one begins at once. Flight adds
// what a Group lacks:
//
//   - A way to leave. A Group keeps a channel for every caller until the call ends,
//     also for those that left. So only the first caller is known to the Group;
//     all callers wait for Call.done, under a context and within Waiters' limit.
//   - A view of what is in flight. Running, Each and the check of StartIf, which
//     is atomic with the decision to begin, need the map of calls.
//   - Cancel. Each call has a context of its own.
//   - Do: a call in the first caller's goroutine. It is registered before it runs,
//     so that the Group never begins another one for its key.
type Flight[K comparable, V any] struct {
	tasks   *Tasks
	waiters *Waiters
	id      func(K) string

	mu       sync.Mutex // never held while a call runs or a caller waits
	calls    map[K]*Call[K, V]
	inFlight atomic.Int64       // the length of calls
	group    singleflight.Group // used with mu held, so that it knows the same calls
}

// New returns a Flight whose calls are tasks of t. id maps a key to a string
// for singleflight; no two keys may map to the same string.
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
	Since time.Time // when the call began
	About any       // set by StartIf, for its owner

	waiters *Waiters
	waiting atomic.Int32
	end     context.CancelCauseFunc // ends the call's context
	done    chan struct{}
	val     V     // written before done is closed, read afterwards
	err     error // likewise
}

// Ticket is a caller's view of a call: a way to wait for its outcome.
type Ticket[K comparable, V any] struct {
	*Call[K, V]
	Began bool // this caller began the call, rather than joining it
}

// Running returns the call in flight for key, or nil.
func (f *Flight[K, V]) Running(key K) *Call[K, V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[key]
}

// IsIdle reports whether no call is in flight.
func (f *Flight[K, V]) IsIdle() bool { return f.inFlight.Load() == 0 }

// Each calls visit for every call that was in flight a moment ago.
func (f *Flight[K, V]) Each(visit func(*Call[K, V])) {
	for _, c := range f.all() {
		visit(c)
	}
}

func (f *Flight[K, V]) all() []*Call[K, V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.AppendSeq(make([]*Call[K, V], 0, len(f.calls)), maps.Values(f.calls))
}

// Start joins the call in flight for key, or begins one with fn. fn must not
// panic or call runtime.Goexit: user callbacks go through CallOut. The error is
// ErrClosed.
func (f *Flight[K, V]) Start(key K, fn func(context.Context) (V, error)) (Ticket[K, V], error) {
	return f.StartIf(key, nil, nil, fn)
}

// StartIf is Start with a final check, atomic with the decision to begin: if
// check returns an error, no call begins. check must not block. about becomes
// Call.About.
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
	c, ctx, err := f.begin(key, about)
	if err != nil {
		return Ticket[K, V]{}, err
	}
	// The Group registers the call before its goroutine starts, so an immediate
	// Cancel finds it.
	f.group.DoChan(f.id(key), func() (any, error) {
		f.run(ctx, c, fn)
		return nil, nil
	})
	return Ticket[K, V]{Call: c, Began: true}, nil
}

// Do joins the call in flight for key, or runs fn as a call in the goroutine of
// its caller, which is a task and does not need another one. If ctx ends while
// it waits for a call that it joined, Do returns a *Left. A call that it began
// has a context of its own, since others may have joined it. fn has a time
// limit, and follows the rules of Start.
func (f *Flight[K, V]) Do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	joined := f.calls[key]
	if joined != nil {
		f.mu.Unlock()
		return joined.Await(ctx)
	}
	c, own, err := f.begin(key, nil)
	f.mu.Unlock()
	if err != nil {
		var zero V
		return zero, err
	}
	f.run(own, c, fn)
	return c.val, c.err
}

// begin registers a call and returns its context. f.mu is held.
func (f *Flight[K, V]) begin(key K, about any) (*Call[K, V], context.Context, error) {
	if !f.tasks.begin() {
		return nil, nil, ErrClosed
	}
	ctx, end := context.WithCancelCause(f.tasks.ctx)
	c := &Call[K, V]{
		Key:     key,
		Since:   time.Now(),
		About:   about,
		waiters: f.waiters,
		end:     end,
		done:    make(chan struct{}),
	}
	f.calls[key] = c
	f.inFlight.Store(int64(len(f.calls)))
	return c, ctx, nil
}

// run runs the call.
func (f *Flight[K, V]) run(ctx context.Context, c *Call[K, V], fn func(context.Context) (V, error)) {
	defer f.tasks.pending.Done()
	defer f.finish(c)
	c.val, c.err = fn(ctx)
}

// finish removes the call before it releases the waiters. So a caller that
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

// forget removes a call. f.mu is held.
func (f *Flight[K, V]) forget(c *Call[K, V]) {
	delete(f.calls, c.Key)
	f.inFlight.Store(int64(len(f.calls)))
	f.group.Forget(f.id(c.Key))
}

// Cancel ends the context of each call for whose key why returns a cause. Those
// calls are removed at once: later callers begin a new call, while callers
// already waiting still get the old outcome.
//
// A call whose StartIf has made its check before Cancel is found, so what the
// check depends on must change before that.
func (f *Flight[K, V]) Cancel(why func(K) error) {
	for _, c := range f.all() {
		if cause := why(c.Key); cause != nil {
			f.cancel(c, cause)
		}
	}
}

// CancelKey is Cancel for the call of one key, if there is one.
func (f *Flight[K, V]) CancelKey(key K, cause error) {
	if c := f.Running(key); c != nil {
		f.cancel(c, cause)
	}
}

// cancel removes a call, unless it has ended, and ends its context.
func (f *Flight[K, V]) cancel(c *Call[K, V], cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[c.Key] == c {
		f.forget(c)
		c.end(cause)
	}
}

// Waiting returns how many callers wait within the limit of Waiters.
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

// Wait returns the call's outcome, or a *Left if ctx ends first. It is for
// calls of bounded duration. The caller that began the call may always wait;
// those that joined count against the limit of Waiters.
func (t Ticket[K, V]) Wait(ctx context.Context) (V, error) {
	if !t.Began && !t.Ended() {
		if err := t.waiters.enter(&t.waiting); err != nil {
			var zero V
			return zero, err
		}
		defer t.waiters.leave(&t.waiting)
	}
	val, err := t.Await(ctx)
	if left, ok := err.(*Left); ok && t.Began {
		left.Began = true
	}
	return val, err
}

// Await is Wait without the limit, for callers bounded elsewhere.
func (c *Call[K, V]) Await(ctx context.Context) (V, error) { return c.await(ctx, nil) }

// WaitFor waits for at most d, within the limit of Waiters. After d it returns
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
		return zero, &Left{Key: c.Key, Cause: context.Cause(ctx)}
	}
}
