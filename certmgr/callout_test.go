package certmgr

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

func TestCallOut(t *testing.T) {
	tests := []struct {
		name string
		f    func(context.Context) (int, error)
		want error
	}{
		{"panic", func(context.Context) (int, error) { panic("boom") }, errCalloutPanic},
		{"panic(nil)", func(context.Context) (int, error) { panic(nil) }, errCalloutPanic},
		{"Goexit", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, errCalloutPanic},
		{"error", func(context.Context) (int, error) { return 0, errDisk }, errDisk},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCallouts("callback", 2)
			if _, err := callOut(t.Context(), c, "key", tt.f); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if _, err := callOut(t.Context(), c, "key", quick); err != nil {
				t.Errorf("the next call for the key got %v", err)
			}
		})
	}
}

func quick(context.Context) (int, error) { return 1, nil }

// slow returns a callback that takes d, or until its context ends if it heeds it.
func slow(d time.Duration, heeds bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		return 1, sleep(ctx, d)
	}
}

// callWithin is callOut with a bound.
func callWithin(t *testing.T, c *callouts, bound time.Duration, f func(context.Context) (int, error)) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	start := time.Now()
	_, err := callOut(ctx, c, "key", f)
	return time.Since(start), err
}

// What timed out does not refuse its successor, which waits for it to return:
// within its own bound, and where visitors wait only as long as there is hope.
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
				c := newCallouts("callback", 2)
				if tt.stuckAfter > 0 {
					c.failFast(tt.stuckAfter)
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

// Successors get their turn in the order of coming, one at a time. Who gives up
// does so at once, is never called and keeps nobody from his turn.
func TestSuccessorsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallouts("callback", 10)
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
					sleep(ctx, time.Second)
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

// A turn that comes in the moment in which its owner's time is over is passed on.
func TestTurnThatComesTooLateIsPassedOn(t *testing.T) {
	c := newCallouts("callback", 10)
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

// Those who wait are bounded like those who run, and so is the whole.
func TestSuccessorsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallouts("callback", 2)
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

// Close waits for a write that waits for one that was given up.
func TestCloseWaitsForSuccessors(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.init()
		s := w.m.engine.operator.store
		w.cache.put(func(context.Context, string) error { return sleep(context.Background(), 2*time.Second) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.put(ctx, "a.example.com", []byte("first"))
		s.tasks.Go(func(ctx context.Context) { s.put(context.WithoutCancel(ctx), "a.example.com", []byte("second")) })
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if got, err := w.cache.Cache.Get(t.Context(), "a.example.com"); string(got) != "second" {
			t.Errorf("Close lost a write that waited: %q, %v", got, err)
		}
	})
}

// A write that was given up does not land on top of a later one.
func TestAbandonedWriteIsNotTheLast(t *testing.T) {
	for _, takes := range []time.Duration{1500 * time.Millisecond, 4 * time.Second} {
		for _, what := range []string{"put", "delete", "conditional delete"} {
			t.Run(what+" after "+takes.String(), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.m.init()
					s := w.m.engine.operator.store
					puts := 0
					w.cache.put(func(context.Context, string) error {
						if puts++; puts == 1 {
							time.Sleep(takes) // and writes all the same
						}
						return nil
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := s.put(ctx, "a.example.com", []byte("first")); !errors.Is(err, ErrCache) || errors.Is(err, ErrBusy) {
						t.Fatalf("the first write: %v", err)
					}
					var err error
					want := ""
					switch what {
					case "put":
						want = "second"
						err = s.put(t.Context(), "a.example.com", []byte(want))
					case "delete":
						err = s.delete(t.Context(), "a.example.com")
					case "conditional delete":
						err = s.deleteIf(t.Context(), "a.example.com", func(data []byte) bool { return string(data) == "first" })
					}
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Minute)
					if got, err := w.cache.Cache.Get(t.Context(), "a.example.com"); string(got) != want {
						t.Errorf("the Cache has %q (%v), want %q", got, err, want)
					}
				})
			})
		}
	}
}

// A write whose time ended while it waited was not made: what needs it is tried again.
func TestWriteThatWaitedInVainIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		hung := false
		w.cache.put(func(_ context.Context, key string) error {
			if key == "a.example.com" && !hung {
				hung = true
				w.cache.hang()
				return errDisk
			}
			return nil
		})
		w.mustGet("a.example.com")
		time.Sleep(time.Minute) // the tries of that time wait in vain
		if _, err := w.cache.Cache.Get(t.Context(), "a.example.com"); err == nil {
			t.Fatal("a second write was made beside the one that hangs")
		}
		w.cache.release()
		time.Sleep(10 * time.Minute)
		if _, err := w.cache.Cache.Get(t.Context(), "a.example.com"); err != nil {
			t.Errorf("the certificate was not written when the cache worked again: %v", err)
		}
	})
}

// A policy that ran out of its time is asked anew by the next visitor, once it has
// returned. While it hangs nobody waits for it again.
func TestPolicyThatTimedOutIsAskedAgain(t *testing.T) {
	for name, heeds := range map[string]bool{"heeds its context": true, "ignores it": false} {
		t.Run(name, func(t *testing.T) {
			var calls, running atomic.Int32
			policy := func(ctx context.Context, host string) error {
				if running.Add(1) != 1 {
					t.Error("two calls at the same time")
				}
				defer running.Add(-1)
				if calls.Add(1) > 1 {
					return nil
				}
				_, err := slow(6*time.Second, heeds)(ctx)
				return err
			}
			policyWorld(t, policy, func(t *testing.T, w *world) {
				start := time.Now()
				w.get("a.example.com")
				if d := time.Since(start); d > policyTimeout+calloutGrace {
					t.Errorf("the first visitor waited %v", d)
				}
				if !heeds {
					err := w.wantErr("a.example.com", ErrPolicy)
					if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "has not returned since") {
						t.Errorf("got %v", err)
					}
					time.Sleep(time.Second)
				}
				w.mustGet("a.example.com")
				if n := calls.Load(); n != 2 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}
