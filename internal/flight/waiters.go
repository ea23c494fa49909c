package flight

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Waiters limits how many callers wait, over all calls of all flights that
// share it. One call may have at most half of the limit, so one key cannot use
// it up. It is safe for concurrent use.
type Waiters struct {
	limit   int
	setting string

	mu sync.Mutex
	n  int
}

// NewWaiters returns Waiters with the given limit. setting is the user's
// setting that errors name.
func NewWaiters(limit int, setting string) *Waiters { return &Waiters{limit: limit, setting: setting} }

func (w *Waiters) enter(perCall *atomic.Int32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n >= w.limit || int(perCall.Load()) >= max(1, w.limit/2) {
		return &Busy{What: fmt.Sprintf("%d handshakes are already waiting (%s %d)", w.n, w.setting, w.limit)}
	}
	w.n++
	perCall.Add(1)
	return nil
}

func (w *Waiters) leave(perCall *atomic.Int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	perCall.Add(-1)
}

// Wait waits until done is closed or ctx ends, as one of those who wait. If
// there are too many of them, it returns an ErrBusy at once.
func (w *Waiters) Wait(ctx context.Context, done <-chan struct{}) error {
	var alone atomic.Int32
	if err := w.enter(&alone); err != nil {
		return err
	}
	defer w.leave(&alone)
	select {
	case <-done:
	case <-ctx.Done():
	}
	return nil
}

// Waiting returns how many callers wait now.
func (w *Waiters) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}
