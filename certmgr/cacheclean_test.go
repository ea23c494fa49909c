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

// checkedCache is a Cache with a Check of its own.
type checkedCache struct {
	certmgr.Cache
	check func(context.Context) error
}

func (c checkedCache) Check(ctx context.Context) error { return c.check(ctx) }

// What others can read or write in the Cache is one warning. One that cannot be
// checked is none.
func TestCacheIsCheckedOnceInTheBackground(t *testing.T) {
	for name, tt := range map[string]struct {
		check func(context.Context) error
		want  string // in a warning, or ""
	}{
		"is private": {func(context.Context) error { return nil }, ""},
		"is open":    {func(context.Context) error { return errors.New("the directory \n is open: chmod it") }, "Manager.Cache: the directory"},
		"hangs":      {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				calls := 0
				w.m.Cache = checkedCache{w.m.Cache, func(ctx context.Context) error {
					calls++
					return tt.check(ctx)
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
					t.Errorf("Check was called %d times", calls)
				}
				var said []string
				for _, e := range w.events.of(audit.ConfigurationWarning) {
					said = append(said, e.Reason)
				}
				if all := strings.Join(said, "|"); !strings.Contains(all, tt.want) || (all == "") != (tt.want == "") || strings.Contains(all, "\n") {
					t.Errorf("warnings are %q, want %q", all, tt.want)
				}
			})
		})
	}
}
