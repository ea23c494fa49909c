package certmgr

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// slow returns a callback that takes d, or until its context ends if it heeds it.
func slow(d time.Duration, heeds bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		return 1, flight.Sleep(ctx, d)
	}
}

// Close waits for a write that waits for one that was given up.
func TestCloseWaitsForSuccessors(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.init()
		s := w.m.engine.operator.store
		w.cache.put(func(context.Context, string) error { return flight.Sleep(context.Background(), 2*time.Second) })
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
				if d := time.Since(start); d > policyTimeout+flight.Grace {
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
