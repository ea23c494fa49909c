package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newTestFlight returns a flight whose tasks end with the test.
func newTestFlight(t *testing.T, waiters int) (*Flight[string, int], *Tasks) {
	t.Helper()
	tasks := NewTasks()
	t.Cleanup(tasks.Close)
	return Named[int](tasks, NewWaiters(waiters, "MaxWaiting")), tasks
}

// after returns a call that takes d and has a unique outcome, unless its
// context ends first.
func after(d time.Duration, val int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if Sleep(ctx, d) != nil {
			return 0, context.Cause(ctx)
		}
		return val, nil
	}
}

// start is Start on a flight that is not closed.
func start(t *testing.T, f *Flight[string, int], key string, fn func(context.Context) (int, error)) Ticket[string, int] {
	t.Helper()
	c, err := f.Start(key, fn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A call that is canceled before its goroutine has begun is not mixed up with
// the next one for its key: both run and both end.
func TestCallThatIsCanceledBeforeItRunsKeepsNoneBack(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the goroutines run after both calls have begun
	synctest.Test(t, func(t *testing.T) {
		f, _ := newTestFlight(t, 10)
		cause := errors.New("taken off the list")
		old := start(t, f, "key", after(time.Second, 0))
		f.Cancel(func(string) error { return cause })
		if f.Running("key") != nil {
			t.Error("a canceled call is in flight")
		}
		fresh := start(t, f, "key", after(time.Second, 1))
		time.Sleep(time.Minute)
		if !old.Ended() || !fresh.Ended() || f.Running("key") != nil {
			t.Fatalf("the canceled call has ended: %v; its successor: %v", old.Ended(), fresh.Ended())
		}
		if val, err := fresh.Wait(t.Context()); val != 1 || err != nil {
			t.Errorf("the successor's outcome is %d, %v", val, err)
		}
		if _, err := old.Wait(t.Context()); err != cause {
			t.Errorf("the canceled call ended with %v", err)
		}
	})
}

// A canceled call that takes its time leaves the call after it alone: that is
// still the one that others join.
func TestCallThatEndsLateKeepsItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newTestFlight(t, 10)
		old := start(t, f, "key", func(context.Context) (int, error) {
			time.Sleep(time.Second) // whatever its context says
			return 0, nil
		})
		f.Cancel(func(string) error { return errors.New("taken off the list") })
		fresh := start(t, f, "key", after(time.Minute, 1))
		time.Sleep(2 * time.Second)
		if !old.Ended() || fresh.Ended() {
			t.Fatalf("the canceled call has ended: %v; its successor: %v", old.Ended(), fresh.Ended())
		}
		if f.Running("key") != fresh.Call {
			t.Error("the end of a canceled call removed its successor")
		}
		if joined := start(t, f, "key", after(0, 2)); joined.Began {
			t.Error("a second call for the key began")
		}
	})
}

// Nobody learns of an outcome while the call still counts as in flight.
func TestOutcomeIsKnownAfterTheCallIsRemoved(t *testing.T) {
	f, _ := newTestFlight(t, 10)
	release := make(chan struct{})
	c := start(t, f, "key", func(context.Context) (int, error) {
		<-release
		return 1, nil
	})
	f.mu.Lock() // the call cannot be removed meanwhile
	close(release)
	for range 10_000 {
		if runtime.Gosched(); c.Ended() {
			t.Error("the outcome is known, and the call in flight")
			break
		}
	}
	f.mu.Unlock()
	if val, err := c.Wait(t.Context()); val != 1 || err != nil {
		t.Errorf("outcome %d, %v", val, err)
	}
}

// A caller that comes after the outcome is known begins a new call and does not
// get the old outcome, however soon it comes.
func TestNextCallBeginsAsSoonAsTheLastHasEnded(t *testing.T) {
	f, tasks := newTestFlight(t, 10)
	for i := range 2000 {
		c := start(t, f, "key", func(context.Context) (int, error) { return i, nil })
		if val, err := c.Wait(t.Context()); !c.Began || val != i || err != nil {
			t.Fatalf("call %d: began %v, outcome %d, %v", i, c.Began, val, err)
		}
	}
	tasks.Close()
	if err := tasks.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// At any time one call runs for a key, not counting canceled ones, and every
// caller gets an outcome.
func TestOneCallRunsForAKey(t *testing.T) {
	f, tasks := newTestFlight(t, 1000)
	cause := errors.New("canceled")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				key := fmt.Sprint(n % 3)
				if i == 0 {
					f.Cancel(func(k string) error {
						if k != key {
							return nil
						}
						return cause
					})
					continue
				}
				var running atomic.Int32
				c, err := f.Start(key, func(ctx context.Context) (int, error) {
					if running.Add(1) != 1 {
						t.Error("a call ran twice")
					}
					runtime.Gosched()
					return 1, context.Cause(ctx)
				})
				if err != nil {
					t.Error(err)
					return
				}
				if val, err := c.Wait(t.Context()); val != 1 || err != nil && err != cause {
					t.Errorf("outcome %d, %v", val, err)
				}
			}
		})
	}
	wg.Wait()
	tasks.Close()
	if err := tasks.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	f.Each(func(c *Call[string, int]) { t.Errorf("%s is in flight at the end", c.Key) })
}

// The caller that began a call may always wait. Joiners are limited, and those
// of one call to half the limit.
func TestWaitersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newTestFlight(t, 4)
		c := start(t, f, "key", after(time.Minute, 1))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { start(t, f, "key", nil).Wait(t.Context()) })
		}
		synctest.Wait()
		_, err := start(t, f, "key", nil).Wait(t.Context())
		if !errors.Is(err, ErrBusy) || err.Error() != "certmgr: too busy: 2 handshakes are already waiting (MaxWaiting 4)" {
			t.Errorf("the third one who joins got %v", err)
		}
		if _, err := c.WaitFor(t.Context(), time.Second); !errors.Is(err, ErrBusy) {
			t.Errorf("WaitFor = %v", err)
		}
		if c.Waiting() != 2 {
			t.Errorf("%d wait", c.Waiting())
		}
		if val, err := c.Wait(t.Context()); val != 1 || err != nil {
			t.Errorf("who began it got %d, %v", val, err)
		}
		wg.Wait()
		if n := f.waiters.Waiting(); n != 0 {
			t.Errorf("%d wait at the end", n)
		}
		if val, err := c.WaitFor(t.Context(), 0); val != 1 || err != nil {
			t.Errorf("after the end WaitFor is %d, %v", val, err)
		}
	})
}

// A caller that leaves is told what it waited for, and the call continues.
func TestCallOutlivesThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newTestFlight(t, 4)
		c := start(t, f, "key", after(time.Minute, 1))
		if _, err := c.WaitFor(t.Context(), time.Second); err != ErrNotYet {
			t.Errorf("WaitFor = %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Wait(ctx)
		if _, ok := err.(*Left); !ok || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "key: the handshake ended") {
			t.Errorf("Wait = %v", err)
		}
		if val, err := c.Await(t.Context()); val != 1 || err != nil {
			t.Errorf("outcome %d, %v", val, err)
		}
	})
}

// Joiners skip the check, and its error keeps a call from beginning. After
// Close no call begins.
func TestStartIf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, tasks := newTestFlight(t, 4)
		refuse := func() error { return errTest }
		if _, err := f.StartIf("key", refuse, nil, nil); err != errTest || f.Running("key") != nil {
			t.Errorf("got %v, in flight: %v", err, f.Running("key"))
		}
		c, err := f.StartIf("key", nil, "about it", after(time.Hour, 1))
		if err != nil || !c.Began || f.Running("key").About != "about it" {
			t.Fatalf("got %+v, %v", c, err)
		}
		if joined, err := f.StartIf("key", refuse, nil, nil); err != nil || joined.Began || joined.Call != c.Call {
			t.Errorf("who joins got %+v, %v", joined, err)
		}
		tasks.Close()
		if _, err := c.Wait(t.Context()); err != ErrClosed {
			t.Errorf("Close ended the call with %v", err)
		}
		if _, err := f.Start("key", after(0, 1)); err != ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A task makes a call without a goroutine of its own. Others join it, it joins
// the calls of others, and its end is that of its caller's bounds and not of
// its caller's context.
func TestDoRunsInItsCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, tasks := newTestFlight(t, 10)
		caller, leave := context.WithCancel(t.Context())
		before := runtime.NumGoroutine()
		var joined Ticket[string, int]
		tasks.Go(func(context.Context) {
			val, err := f.Do(caller, "key", func(ctx context.Context) (int, error) {
				if n := runtime.NumGoroutine() - before; n != 1 {
					t.Errorf("%d goroutines, want the task's alone", n)
				}
				joined = start(t, f, "key", after(0, 2))
				leave()
				return after(time.Second, 1)(ctx)
			})
			if val != 1 || err != nil {
				t.Errorf("the caller got %d, %v", val, err)
			}
		})
		synctest.Wait()
		if joined.Began || f.Running("key") == nil {
			t.Fatal("the call is not one of the flight's")
		}
		if val, err := f.Do(t.Context(), "key", after(0, 3)); val != 1 || err != nil {
			t.Errorf("a second task got %d, %v", val, err)
		}
		if val, err := joined.Wait(t.Context()); val != 1 || err != nil {
			t.Errorf("who joined the call got %d, %v", val, err)
		}
		other := start(t, f, "key", after(time.Second, 4))
		if _, err := f.Do(caller, "key", after(0, 5)); !errors.As(err, new(*Left)) {
			t.Errorf("a task whose context had ended waited for another's call: %v", err)
		}
		if val, err := f.Do(t.Context(), "key", after(0, 5)); val != 4 || err != nil {
			t.Errorf("a task that joined a call got %d, %v", val, err)
		}
		other.Wait(t.Context())
		tasks.Close()
		if _, err := f.Do(t.Context(), "key", after(0, 6)); err != ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Cancel ends such a call too, and the next one for its key begins at once.
func TestDoCanBeCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, tasks := newTestFlight(t, 10)
		cause := errors.New("taken off the list")
		tasks.Go(func(ctx context.Context) {
			if _, err := f.Do(ctx, "key", after(time.Hour, 0)); err != cause {
				t.Errorf("the canceled call ended with %v", err)
			}
		})
		synctest.Wait()
		f.Cancel(func(string) error { return cause })
		if val, err := f.Do(t.Context(), "key", after(time.Second, 1)); val != 1 || err != nil {
			t.Errorf("the next one got %d, %v", val, err)
		}
		f.Each(func(c *Call[string, int]) { t.Errorf("%s is in flight at the end", c.Key) })
	})
}

// Whoever looks at all calls, or at the key of each, keeps nobody from beginning
// one.
func TestWalkOverCallsHoldsNoLock(t *testing.T) {
	f, tasks := newTestFlight(t, 10)
	ended := func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	cause := errors.New("canceled")
	first := start(t, f, "first", ended)
	second := start(t, f, "second", ended)
	f.Each(func(c *Call[string, int]) { start(t, f, "during "+c.Key, ended) })
	f.Cancel(func(key string) error {
		start(t, f, key, ended) // joins the call
		if key == "first" {
			return cause
		}
		return nil
	})
	if _, err := first.Wait(t.Context()); err != cause {
		t.Errorf("the canceled call ended with %v", err)
	}
	f.CancelKey("second", cause)
	f.CancelKey("nobody", cause)
	if _, err := second.Wait(t.Context()); err != cause {
		t.Errorf("the canceled call ended with %v", err)
	}
	if f.Running("during first") == nil || f.Running("during second") == nil {
		t.Error("a call that was begun meanwhile does not run")
	}
	tasks.Close()
	if err := tasks.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
