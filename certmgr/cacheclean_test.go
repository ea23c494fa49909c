package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// cleanCache is a Cache with a Clean of its own.
type cleanCache struct {
	certmgr.Cache
	clean func(context.Context) error
}

func (c cleanCache) Clean(ctx context.Context) error { return c.clean(ctx) }

// A Manager cleans its Cache once, and serves whatever becomes of that.
func TestCacheIsCleanedOnceInTheBackground(t *testing.T) {
	for name, tt := range map[string]struct {
		clean func(context.Context) error
		want  string // in an event, or ""
	}{
		"works":  {func(context.Context) error { return nil }, ""},
		"fails":  {func(context.Context) error { return errors.New("disk is sick") }, "disk is sick"},
		"panics": {func(context.Context) error { panic("clean is sick") }, "clean is sick"},
		"hangs":  {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				calls := 0
				w.m.Cache = cleanCache{w.m.Cache, func(ctx context.Context) error {
					calls++
					return tt.clean(ctx)
				}}
				begin := time.Now()
				w.mustGet("a.example.com")
				w.mustGet("b.example.com")
				if d := time.Since(begin); d > time.Second {
					t.Errorf("handshakes waited %v", d)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if calls != 1 {
					t.Errorf("Clean was called %d times", calls)
				}
				var said []string
				for _, e := range w.events.of(audit.CacheWriteFailed) {
					said = append(said, e.Err.Error())
				}
				if all := strings.Join(said, "\n"); !strings.Contains(all, tt.want) || (all == "") != (tt.want == "") {
					t.Errorf("events say %q, want %q", all, tt.want)
				}
			})
		})
	}
}
