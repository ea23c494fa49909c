package certmgr

import (
	"context"
	"sync"
)

// tasks owns every goroutine of a Manager. Their context ends on close, and
// close waits until the last of them is gone.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
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
	if t.closed {
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
	if t.closed && t.running == 0 {
		close(t.idle)
	}
}

func (t *tasks) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// close ends the tasks' context, lets nothing new begin, and returns a channel
// that is closed when the last task has returned.
func (t *tasks) close() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		t.idle = make(chan struct{})
		t.cancel()
		if t.running == 0 {
			close(t.idle)
		}
	}
	return t.idle
}
