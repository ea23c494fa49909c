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

// cleanCache is a Cache with a Clean of its own, and checkedCache one with a Check.
type (
	cleanCache struct {
		certmgr.Cache
		clean func(context.Context) error
	}
	checkedCache struct {
		certmgr.Cache
		check func(context.Context) error
	}
)

func (c cleanCache) Clean(ctx context.Context) error   { return c.clean(ctx) }
func (c checkedCache) Check(ctx context.Context) error { return c.check(ctx) }

func withClean(c certmgr.Cache, f func(context.Context) error) certmgr.Cache { return cleanCache{c, f} }
func withCheck(c certmgr.Cache, f func(context.Context) error) certmgr.Cache {
	return checkedCache{c, f}
}

// A Manager has its Cache cleaned once, and checked once, and serves whatever becomes
// of that. A Clean that fails is an event. What a Check finds is a warning, and one that
// does not end is none.
func TestCacheIsCleanedAndCheckedOnceInTheBackground(t *testing.T) {
	works := func(context.Context) error { return nil }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, tt := range map[string]struct {
		in   func(certmgr.Cache, func(context.Context) error) certmgr.Cache
		call func(context.Context) error
		want string // in an event of its kind, or ""
	}{
		"Clean works":  {withClean, works, ""},
		"Clean fails":  {withClean, func(context.Context) error { return errors.New("disk is sick") }, "disk is sick"},
		"Clean panics": {withClean, func(context.Context) error { panic("clean is sick") }, "clean is sick"},
		"Clean hangs":  {withClean, hangs, "deadline exceeded"},
		"Check works":  {withCheck, works, ""},
		"Check fails":  {withCheck, func(context.Context) error { return errors.New("the directory \n is open: chmod it") }, "Manager.Cache: the directory"},
		"Check hangs":  {withCheck, hangs, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				calls := 0
				w.m.Cache = tt.in(w.m.Cache, func(ctx context.Context) error {
					calls++
					return tt.call(ctx)
				})
				begin := time.Now()
				w.mustGet("a.example.com")
				w.mustGet("b.example.com")
				if d := time.Since(begin); d > time.Second {
					t.Errorf("handshakes waited %v", d)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if calls != 1 {
					t.Errorf("it was called %d times", calls)
				}
				var said []string
				for _, e := range w.events.of(audit.CacheWriteFailed) {
					said = append(said, e.Err.Error())
				}
				for _, e := range w.events.of(audit.ConfigurationWarning) {
					said = append(said, e.Reason)
				}
				if all := strings.Join(said, "|"); !strings.Contains(all, tt.want) || (all == "") != (tt.want == "") || strings.Contains(all, "\n") {
					t.Errorf("events say %q, want %q", all, tt.want)
				}
			})
		})
	}
}
