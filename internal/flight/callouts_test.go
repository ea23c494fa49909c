package flight

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/internal/text"
)

var errTest = errors.New("out of order")

func TestCallOut(t *testing.T) {
	tests := []struct {
		name string
		f    func(context.Context) (int, error)
		want error
	}{
		{"panic", func(context.Context) (int, error) { panic("boom") }, ErrPanic},
		{"panic(nil)", func(context.Context) (int, error) { panic(nil) }, ErrPanic},
		{"Goexit", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, ErrPanic},
		{"error", func(context.Context) (int, error) { return 0, errTest }, errTest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCallouts("callback", 2)
			if _, err := CallOut(t.Context(), c, "key", tt.f); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if _, err := CallOut(t.Context(), c, "key", quick); err != nil {
				t.Errorf("the next call for the key got %v", err)
			}
		})
	}
}

func quick(context.Context) (int, error) { return 1, nil }

// slow returns a callback that takes d, or until its context ends if it heeds
// it.
func slow(d time.Duration, heeds bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		return 1, Sleep(ctx, d)
	}
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// callWithin is callOut with a time-out.
func callWithin(t *testing.T, c *Callouts, bound time.Duration, f func(context.Context) (int, error)) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	start := time.Now()
	_, err := CallOut(ctx, c, "key", f)
	return time.Since(start), err
}

// A call that timed out does not block the next, which waits for it to return:
// within its own context, and where handshakes wait only until the call counts
// as stuck.
func TestWhatTimedOutDoesNotRefuseItsSuccessor(t *testing.T) {
	const ever = time.Hour
	tests := []struct {
		name       string
		takes      time.Duration
		heeds      bool
		given      time.Duration // to the first caller; the second one has 5 s
		stuckAfter time.Duration
		busy       bool // the second one is refused
		waits      time.Duration
	}{
		{"given up early", 1500 * time.Millisecond, false, time.Second, 0, false, 500 * time.Millisecond},
		{"given up early, heeds", 1500 * time.Millisecond, true, time.Second, 0, false, 0},
		{"given up early where visitors wait", 1500 * time.Millisecond, false, time.Second, 5 * time.Second, false, 400 * time.Millisecond},
		{"given up early where visitors wait, heeds", 1500 * time.Millisecond, true, time.Second, 5 * time.Second, false, 0},
		{"late", 6 * time.Second, false, 5 * time.Second, 0, false, time.Second},
		{"late, heeds", 6 * time.Second, true, 5 * time.Second, 0, false, 0},
		{"late where visitors wait", 6 * time.Second, false, 5 * time.Second, 5 * time.Second, true, 0},
		{"late where visitors wait, heeds", 6 * time.Second, true, 5 * time.Second, 5 * time.Second, false, 0},
		{"hangs", ever, false, 5 * time.Second, 0, true, 5 * time.Second},
		{"hangs, heeds", ever, true, 5 * time.Second, 0, false, 0},
		{"hangs where visitors wait", ever, false, 5 * time.Second, 5 * time.Second, true, 0},
		{"hangs where visitors wait, heeds", ever, true, 5 * time.Second, 5 * time.Second, false, 0},
		{"hangs and was given up early where visitors wait", ever, false, time.Second, 5 * time.Second, true, 3900 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewCallouts("callback", 2)
				if tt.stuckAfter > 0 {
					c.FailFast(tt.stuckAfter)
				}
				began := time.Now()
				if d, err := callWithin(t, c, tt.given, slow(tt.takes, tt.heeds)); !errors.Is(err, context.DeadlineExceeded) || d > tt.given+c.grace {
					t.Fatalf("the first call took %v: %v", d, err)
				}
				called := false
				d, err := callWithin(t, c, 5*time.Second, func(context.Context) (int, error) { called = true; return 1, nil })
				if d != tt.waits || called == tt.busy || errors.Is(err, ErrBusy) != tt.busy {
					t.Errorf("the next one took %v, called %v: %v; want %v", d, called, err, tt.waits)
				}
				if tt.busy && !strings.Contains(err.Error(), `callback for "key" has not returned since `+text.Stamp(began)) {
					t.Errorf("%v does not say what keeps it", err)
				}
				time.Sleep(tt.takes)
				synctest.Wait()
				if _, err := callWithin(t, c, time.Second, quick); err != nil {
					t.Errorf("after the return: %v", err)
				}
			})
		})
	}
}

// Callers take turns in order of arrival. One that gives up returns at once, is
// never called and delays no other caller.
func TestSuccessorsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallouts("callback", 10)
		callWithin(t, c, time.Second, slow(10*time.Second, false))
		var order []int
		var running atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				bound := time.Minute
				if i%2 == 1 {
					bound = time.Duration(i) * time.Second
				}
				d, err := callWithin(t, c, bound, func(ctx context.Context) (int, error) {
					if running.Add(1) != 1 {
						t.Error("two calls for a key at the same time")
					}
					order = append(order, i)
					Sleep(ctx, time.Second)
					running.Add(-1)
					return 0, nil
				})
				if gaveUp := i%2 == 1; gaveUp != errors.Is(err, ErrBusy) || gaveUp && (d != bound || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("number %d got %v after %v", i, err, d)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if want := []int{0, 2, 4, 6}; !slices.Equal(order, want) {
			t.Errorf("called in the order %v, want %v", order, want)
		}
		if len(c.running) != 0 || c.waiting != 0 {
			t.Errorf("left behind: %v, %d waiting", c.running, c.waiting)
		}
	})
}

// A turn that comes just as its owner's time is over is passed on.
func TestTurnThatComesTooLateIsPassedOn(t *testing.T) {
	c := NewCallouts("callback", 10)
	var turns []chan struct{}
	for range 3 { // one that runs, and two who wait
		turn, err := c.enter("key")
		if err != nil {
			t.Fatal(err)
		}
		turns = append(turns, turn)
	}
	c.end("key")
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if !isDone(turns[1]) || isDone(turns[2]) {
		t.Fatal("it is not the turn of the first who waits")
	}
	if err := c.leave(late, "key", turns[1]); !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("the late one got %v", err)
	}
	if !isDone(turns[2]) {
		t.Fatal("the turn was not passed on")
	}
	if err := c.leave(t.Context(), "key", turns[2]); err != nil {
		t.Errorf("the next one got %v", err)
	}
	c.end("key")
	if len(c.running) != 0 || c.waiting != 0 {
		t.Errorf("left behind: %v, %d waiting", c.running, c.waiting)
	}
}

// Waiting callers are bounded like running calls, and so is the total.
func TestSuccessorsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallouts("callback", 2)
		callWithin(t, c, time.Second, slow(time.Minute, false))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { callWithin(t, c, time.Hour, quick) })
		}
		synctest.Wait()
		if d, err := callWithin(t, c, time.Hour, quick); !errors.Is(err, ErrBusy) || d != 0 {
			t.Errorf("the third one waited %v and got %v", d, err)
		}
		wg.Wait()
	})
}

// Calls that have not returned are bounded, whether anybody still waits for
// them or not.
func TestRunningCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallouts("callback", 2)
		call := func(key string, f func(context.Context) (int, error)) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := CallOut(ctx, c, key, f)
			return err
		}
		for _, key := range []string{"a", "b"} {
			if err := call(key, slow(time.Minute, false)); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if err := call("c", quick); !errors.Is(err, ErrBusy) {
			t.Errorf("a third call was made: %v", err)
		}
		time.Sleep(time.Minute)
		if err := call("c", quick); err != nil {
			t.Errorf("after the others returned: %v", err)
		}
	})
}

// The caller has the outcome before what follows it begins, and key and Wait
// have it after that has ended.
func TestWhatFollowsACallKeepsItsKey(t *testing.T) {
	for name, f := range map[string]func(context.Context) (int, error){
		"returns": quick,
		"panics":  func(context.Context) (int, error) { panic("boom") },
		"exits":   func(context.Context) (int, error) { runtime.Goexit(); return 0, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewCallouts("callback", 2)
				start := time.Now()
				told := make(chan struct{})
				_, err := CallOutThen(t.Context(), c, "key", f, func() {
					<-told // what the caller does with the outcome
					time.Sleep(time.Minute)
				})
				if (err != nil) != (name != "returns") || time.Since(start) != 0 {
					t.Errorf("the caller got %v after %v", err, time.Since(start))
				}
				close(told)
				if _, err := CallOut(t.Context(), c, "key", quick); err != nil || time.Since(start) != time.Minute {
					t.Errorf("the next call got %v after %v", err, time.Since(start))
				}
				if err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCallThatIsRefusedIsFollowedByNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallouts("callback", 2)
		then := func() { t.Error("called") }
		go CallOut(t.Context(), c, "key", slow(time.Minute, false))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := CallOutThen(ctx, c, "key", quick, then); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Wait waits for what follows a call whose caller has left, too, and names its
// key.
func TestWaitNamesWhatFollowsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCallouts("callback", 2)
		if _, err := CallOutThen(t.Context(), c, "key", quick, func() { time.Sleep(time.Hour) }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Wait(ctx); err == nil || !strings.Contains(err.Error(), `"key"`) {
			t.Errorf("got %v", err)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
