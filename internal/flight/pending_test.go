package flight

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Pending may become idle and grow again while a Wait is running.
func TestPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pending
		if n := p.Wait(t.Context()); n != 0 {
			t.Errorf("%d under way at the beginning", n)
		}
		p.Add()
		p.Add()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.Done()
		if n := p.Wait(ctx); n != 1 {
			t.Errorf("%d under way, want 1", n)
		}
		for range 2 {
			begin := time.Now()
			time.AfterFunc(time.Second, p.Done)
			if n := p.Wait(t.Context()); n != 0 || time.Since(begin) != time.Second {
				t.Errorf("%d under way after %v", n, time.Since(begin))
			}
			p.Add()
		}
	})
}

// Close ends the tasks and prevents new ones; Wait waits for them.
func TestTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := NewTasks()
		begin := time.Now()
		tasks.Go(func(ctx context.Context) {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			if context.Cause(ctx) != ErrClosed {
				t.Errorf("the context ended with %v", context.Cause(ctx))
			}
		})
		time.AfterFunc(time.Second, tasks.Close)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := tasks.Wait(ctx); err != context.DeadlineExceeded {
			t.Errorf("Wait = %v", err)
		}
		if !tasks.IsClosed() || tasks.Go(func(context.Context) { t.Error("a task began after Close") }) {
			t.Error("it is not closed")
		}
		if err := tasks.Wait(t.Context()); err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("Wait = %v after %v", err, time.Since(begin))
		}
	})
}
