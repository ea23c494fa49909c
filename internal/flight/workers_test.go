package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const workersTimeout = 5 * time.Second

// crew is Workers whose callback is f.
type crew struct {
	*Workers[string]
	tasks  *Tasks
	deaths []*Death
}

func newCrew(limit int, f func(ctx context.Context, key string) string) *crew {
	c := &crew{tasks: NewTasks()}
	c.Workers = NewWorkers(WorkersConfig[string]{
		Tasks:   c.tasks,
		Waiters: NewWaiters(4, "MaxWaiting"),
		Name:    "Policy",
		Limit:   limit,
		Timeout: workersTimeout,
		Call:    func(ctx context.Context, key string, answer *string) { *answer = f(ctx, key) },
		Value: func(key any, answer *string) any {
			if key == "answer" {
				return answer
			}
			return nil
		},
		OnDeath: func(_ string, d *Death) { c.deaths = append(c.deaths, d) },
	})
	return c
}

func (c *crew) goroutines() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers
}

// inCrew runs test in a bubble.
func inCrew(t *testing.T, limit int, f func(ctx context.Context, key string) string, test func(t *testing.T, c *crew)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(limit, f)
		test(t, c)
		c.tasks.Close()
		if err := c.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkersAreUsedAgainAndEnd(t *testing.T) {
	echo := func(_ context.Context, key string) string { return key }
	inCrew(t, 10, echo, func(t *testing.T, c *crew) {
		for i := range 1000 {
			key := fmt.Sprint(i)
			if v, err := c.Do(t.Context(), key, Caller{}); v != key || err != nil {
				t.Fatalf("Do(%s) = %s, %v", key, v, err)
			}
		}
		if n := c.goroutines(); n != 1 {
			t.Errorf("%d goroutines for one caller", n)
		}
		time.Sleep(3 * workersTimeout)
		synctest.Wait()
		if n := c.goroutines(); n != 0 || len(c.running) != 0 || c.armed {
			t.Errorf("when idle: %d goroutines, %d calls, timer %t", n, len(c.running), c.armed)
		}
		if v, err := c.Do(t.Context(), "again", Caller{}); v != "again" || err != nil {
			t.Errorf("after that: %s, %v", v, err)
		}
	})
}

func TestWorkersShareACall(t *testing.T) {
	calls := 0
	slow := func(_ context.Context, key string) string {
		calls++
		time.Sleep(time.Second)
		return key
	}
	inCrew(t, 10, slow, func(t *testing.T, c *crew) {
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 3 { // one begins it, and half of the limit of 4 joins
			wg.Go(func() {
				if v, err := c.Do(t.Context(), "a", Caller{}); v != "a" || err != nil {
					t.Errorf("caller %d: %s, %v", i, v, err)
				}
			})
		}
		synctest.Wait()
		var busy *Busy
		if _, err := c.Do(t.Context(), "a", Caller{}); !errors.As(err, &busy) || !strings.Contains(err.Error(), "MaxWaiting 4") {
			t.Errorf("one more: %v", err)
		}
		if v, err := c.DoInTask(t.Context(), "a", Caller{}); v != "a" || err != nil {
			t.Errorf("a task: %s, %v", v, err)
		}
		wg.Wait()
		if took := time.Since(begun); took != time.Second || calls != 1 {
			t.Errorf("%d calls in %v", calls, took)
		}
	})
}

// A call that hangs is given up after its time, for all who wait, to the
// moment; its key stays taken until it returns.
func TestWorkersGiveUpACallThatHangs(t *testing.T) {
	var release chan struct{}
	hang := func(_ context.Context, key string) string {
		if key == "hangs" {
			<-release
		}
		return key
	}
	inCrew(t, 3, hang, func(t *testing.T, c *crew) {
		release = make(chan struct{})
		if _, err := c.Do(t.Context(), "quick", Caller{}); err != nil { // the timer runs from now on
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				_, err := c.Do(t.Context(), "hangs", Caller{})
				if took := time.Since(begun); took != workersTimeout+Grace || !errors.Is(err, context.DeadlineExceeded) ||
					!strings.Contains(err.Error(), `Policy for "hangs" did not return`) {
					t.Errorf("caller %d after %v: %v", i, took, err)
				}
			})
		}
		wg.Wait()
		begun = time.Now()
		_, err := c.Do(t.Context(), "hangs", Caller{})
		none, ok := errors.AsType[*NoAnswer](err)
		if !ok || !errors.Is(err, ErrBusy) || !strings.Contains(none.Error(), "has not returned since") || time.Since(begun) != 0 {
			t.Errorf("while it hangs: %v", err)
		}
		if v, err := c.Do(t.Context(), "quick", Caller{}); v != "quick" || err != nil {
			t.Errorf("another key: %s, %v", v, err)
		}
		close(release)
		synctest.Wait()
		if v, err := c.Do(t.Context(), "hangs", Caller{}); v != "hangs" || err != nil {
			t.Errorf("after it has returned: %s, %v", v, err)
		}
	})
}

func TestWorkersAreLimited(t *testing.T) {
	slow := func(_ context.Context, key string) string { time.Sleep(time.Second); return key }
	inCrew(t, 2, slow, func(t *testing.T, c *crew) {
		for _, key := range []string{"a", "b"} {
			go c.Do(t.Context(), key, Caller{})
		}
		synctest.Wait()
		if _, err := c.Do(t.Context(), "c", Caller{}); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "2 calls of Policy have not returned") {
			t.Errorf("a third call: %v", err)
		}
	})
}

// A caller that leaves does not end the call.
func TestWorkersCallOutlastsItsCaller(t *testing.T) {
	calls := 0
	slow := func(_ context.Context, key string) string { calls++; time.Sleep(2 * time.Second); return key }
	errGone := errors.New("gone")
	for name, leave := range map[string]func(c *crew) error{
		"context": func(c *crew) error {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(errGone) })
			_, err := c.Do(ctx, "a", Caller{})
			return err
		},
		"patience": func(c *crew) error {
			now := time.Now()
			_, err := c.Do(context.Background(), "a", Caller{Now: now, Until: now.Add(time.Second)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls = 0
			inCrew(t, 10, slow, func(t *testing.T, c *crew) {
				begun := time.Now()
				err := leave(c)
				left, ok := err.(*Left)
				if !ok || !left.Began || !errors.Is(err, errGone) && !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
					t.Fatalf("after %v: %v", time.Since(begun), err)
				}
				if v, err := c.Do(t.Context(), "a", Caller{}); v != "a" || err != nil || time.Since(begun) != 2*time.Second {
					t.Errorf("who joined, after %v: %s, %v", time.Since(begun), v, err)
				}
				if calls != 1 {
					t.Errorf("%d calls", calls)
				}
				// The seat that was left is not used by others.
				for range 3 {
					if v, err := c.Do(t.Context(), "b", Caller{}); v != "b" || err != nil {
						t.Errorf("later: %s, %v", v, err)
					}
				}
			})
		})
	}
}

// A panic and a Goexit end their goroutine and nothing else.
func TestWorkersSurviveTheirCallback(t *testing.T) {
	wild := func(_ context.Context, key string) string {
		switch key {
		case "panic":
			panic("boom")
		case "Goexit":
			runtime.Goexit()
		}
		return key
	}
	inCrew(t, 10, wild, func(t *testing.T, c *crew) {
		for i, key := range []string{"panic", "Goexit", "panic"} {
			_, err := c.Do(t.Context(), key, Caller{})
			if _, ok := err.(*NoAnswer); !ok || !errors.Is(err, ErrPanic) || len(c.deaths) != i+1 {
				t.Errorf("%s: %v, %d deaths told", key, err, len(c.deaths))
			}
			if v, err := c.Do(t.Context(), "a", Caller{}); v != "a" || err != nil {
				t.Errorf("then: %s, %v", v, err)
			}
		}
	})
}

// The context of a call ends with its time, with the call and with Tasks, and
// carries the callers' value.
func TestWorkersContext(t *testing.T) {
	var kept context.Context
	f := func(ctx context.Context, key string) string {
		kept = ctx
		if at, ok := ctx.Deadline(); !ok || time.Until(at) != workersTimeout {
			t.Errorf("the deadline is in %v", time.Until(at))
		}
		if *ctx.Value("answer").(*string) != "" || ctx.Value("other") != nil {
			t.Error("the context has the wrong values")
		}
		if key == "waits" {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			return fmt.Sprint(context.Cause(child))
		}
		return key
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(10, f)
		begun := time.Now()
		if v, err := c.Do(t.Context(), "waits", Caller{}); v != context.DeadlineExceeded.Error() || err != nil || time.Since(begun) != workersTimeout {
			t.Errorf("after %v: %s, %v", time.Since(begun), v, err)
		}
		c.Do(t.Context(), "a", Caller{})
		if err := kept.Err(); err != context.Canceled {
			t.Errorf("after the call: %v", err)
		}
		time.AfterFunc(time.Second, c.tasks.Close)
		if v, err := c.Do(t.Context(), "waits", Caller{}); v != ErrClosed.Error() || err != nil {
			t.Errorf("while Tasks is closed: %s, %v", v, err)
		}
		if _, err := c.Do(t.Context(), "a", Caller{}); err != ErrClosed {
			t.Errorf("after that: %v", err)
		}
		if err := c.Wait(t.Context()); err != nil || c.goroutines() != 0 {
			t.Errorf("Wait: %v, %d goroutines", err, c.goroutines())
		}
	})
}

// Callers of a call that ignores the end of Tasks are released, and Wait names it.
func TestWorkersCloseNamesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newCrew(10, func(context.Context, string) string { <-release; return "" })
		time.AfterFunc(time.Second, c.tasks.Close)
		begun := time.Now()
		if _, err := c.Do(t.Context(), "a", Caller{}); err != ErrClosed || time.Since(begun) != time.Second+Grace {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Wait(ctx); err == nil || !strings.Contains(err.Error(), `1 calls of Policy have not returned: ["a"]`) {
			t.Errorf("Wait: %v", err)
		}
		close(release)
		if err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Callers, time-outs, deaths and Close at once.
func TestWorkersStress(t *testing.T) {
	c := newCrew(8, func(ctx context.Context, key string) string {
		switch key {
		case "3":
			<-ctx.Done()
		case "5":
			runtime.Goexit()
		}
		return key
	})
	c.cfg.OnDeath = func(string, *Death) {}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 500 {
				key := fmt.Sprint((i + n) % 10)
				ctx, cancel := context.WithCancel(t.Context())
				if key == "3" || n%7 == 0 {
					go cancel()
				}
				if v, err := c.Do(ctx, key, Caller{}); err == nil && v != key {
					t.Errorf("the answer to %s is %s", key, v)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	c.tasks.Close()
	if err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// A worker whose call was given up ends like any other, once that has returned.
func TestWorkersOfGivenUpCallsEnd(t *testing.T) {
	var release chan struct{}
	hang := func(context.Context, string) string { <-release; return "" }
	inCrew(t, 3, hang, func(t *testing.T, c *crew) {
		release = make(chan struct{})
		c.Do(t.Context(), "a", Caller{})
		time.Sleep(time.Hour)
		close(release)
		time.Sleep(3 * workersTimeout)
		synctest.Wait()
		if n := c.goroutines(); n != 0 {
			t.Errorf("%d goroutines when idle", n)
		}
	})
}
