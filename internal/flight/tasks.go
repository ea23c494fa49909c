package flight

import (
	"context"
	"sync"
	"sync/atomic"
)

// Tasks owns goroutines. Close ends their context, with ErrClosed as the cause.
// It is safe for concurrent use.
type Tasks struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	pending Pending

	mu     sync.Mutex // makes begin and Close atomic
	closed atomic.Bool
}

// NewTasks returns an open, empty Tasks.
func NewTasks() *Tasks {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Tasks{ctx: ctx, cancel: cancel}
}

// Go runs f in a goroutine and returns true, or returns false if t is closed. f
// must return soon after its context has ended.
func (t *Tasks) Go(f func(ctx context.Context)) bool {
	if !t.begin() {
		return false
	}
	go func() {
		defer t.pending.Done()
		f(t.ctx)
	}()
	return true
}

// begin counts a goroutine that the caller is about to start, unless t is
// closed.
func (t *Tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.pending.Add()
	return true
}

// IsClosed reports whether Close was called.
func (t *Tasks) IsClosed() bool { return t.closed.Load() }

// Close ends the tasks' context and prevents new ones. It does not wait.
func (t *Tasks) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed.Store(true)
	t.cancel(ErrClosed)
}

// Wait waits until no task is running, or returns the error of ctx if that ends
// first.
func (t *Tasks) Wait(ctx context.Context) error {
	if t.pending.Wait(ctx) == 0 {
		return nil
	}
	return ctx.Err()
}
