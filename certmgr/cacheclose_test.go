package certmgr_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// A read that Close interrupts is no failure of the cache.
func TestReadThatCloseInterruptsIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(ctx context.Context, _ string) error { return flight.Sleep(ctx, time.Second) })
		go w.get("a.example.com")
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Fatal(err)
		}
		if e := w.events.of(audit.CacheReadFailed); len(e) != 0 {
			t.Errorf("events %v", e)
		}
	})
}
