package flight

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A key has one holder at a time, other keys are free, and a waiter may leave.
func TestKeyLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l KeyLock
		unlock, err := l.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if other, err := l.Lock(t.Context(), "b"); err != nil {
			t.Fatal(err)
		} else {
			other()
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errTest)
		defer cancel()
		if _, err := l.Lock(ctx, "a"); !errors.Is(err, errTest) {
			t.Errorf("who left got %v", err)
		}
		holders := 0
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				unlock, err := l.Lock(t.Context(), "a")
				if holders++; err != nil || holders != 1 {
					t.Errorf("%d holders, %v", holders, err)
				}
				time.Sleep(time.Second)
				holders--
				unlock()
			})
		}
		synctest.Wait()
		unlock()
		wg.Wait()
		if len(l.held) != 0 {
			t.Errorf("%d keys are held at the end", len(l.held))
		}
	})
}
