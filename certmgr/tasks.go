package certmgr

import (
	"context"
	"sync"
	"sync/atomic"
)

// tasks owns every goroutine of a Manager. Their context ends on close, and
// close waits until the last of them is gone.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  atomic.Bool // changed under mu
	running int
	idle    chan struct{} // made by close; closed when nothing runs
}

func newTasks() *tasks {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &tasks{ctx: ctx, cancel: func() { cancel(ErrClosed) }}
}

// Go runs f in a goroutine unless the Manager is closed, and reports whether
// it does. f must return soon after its context has ended.
func (t *tasks) Go(f func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.running++
	go func() {
		defer t.done()
		f(t.ctx)
	}()
	return true
}

func (t *tasks) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.closed.Load() && t.running == 0 {
		close(t.idle)
	}
}

func (t *tasks) isClosed() bool { return t.closed.Load() }

// close ends the tasks' context, lets nothing new begin, and returns a channel
// that is closed when the last task has returned.
func (t *tasks) close() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed.Load() {
		t.closed.Store(true)
		t.idle = make(chan struct{})
		t.cancel()
		if t.running == 0 {
			close(t.idle)
		}
	}
	return t.idle
}
