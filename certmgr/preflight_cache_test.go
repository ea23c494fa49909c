package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/probe"
)

// Another machine of the fleet cannot have an answer that the Cache did not take.
func TestPreflightDoesNotBlameTheNameForTheCache(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		inBubble(t, func(t *testing.T, w *world) {
			w.preflightOfTwo(preflight.Enforce, func(ctx context.Context) error {
				_, err := slow(2*probe.PresentTimeout, heeds)(ctx) // slow, but in time for a challenge
				return err
			})
			w.mustGet("a.example.com")
			events := w.events.of(audit.HostUnreachable)
			if len(events) != 1 || events[0].Decision != audit.Undecided || !strings.Contains(events[0].Err.Error(), "the Cache did not take the answer") {
				t.Errorf("events: %v", events)
			}
		})
	}
}

// The answer to the CA's challenge gets into the Cache whatever became of the
// preflight's, which has the same key: it is neither refused nor overwritten.
func TestPreflightDoesNotKeepTheAnswerOutOfTheCache(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		for _, mode := range []preflight.Mode{preflight.Off, preflight.Report, preflight.Enforce} {
			for _, takes := range []time.Duration{probe.PresentTimeout, 3 * probe.PresentTimeout / 2, 2 * probe.PresentTimeout} {
				inBubble(t, func(t *testing.T, w *world) {
					w.preflightOfTwo(mode, func(ctx context.Context) error {
						_, err := slow(takes, heeds)(ctx)
						return err
					})
					w.mustGet("a.example.com")
					for _, e := range w.events.of(audit.CacheWriteFailed) {
						if errors.Is(e.Err, certmgr.ErrBusy) {
							t.Errorf("%v, a write of %v, heeds %v: %v", mode, takes, heeds, e)
						}
					}
					time.Sleep(time.Minute)
					if _, err := w.cache.Cache.Get(t.Context(), challenge.TLSALPN01Key("a.example.com")); !errors.Is(err, certmgr.ErrCacheMiss) {
						t.Errorf("%v, a write of %v, heeds %v: an answer was left behind: %v", mode, takes, heeds, err)
					}
				})
			}
		}
	}
}

// preflightOfTwo turns the preflight on for a machine whose host leads to another
// one with the same Cache. put is what writing a challenge's answer takes.
func (w *world) preflightOfTwo(mode preflight.Mode, put func(context.Context) error) {
	other := w.manager()
	w.t.Cleanup(func() { other.Close() })
	n := w.preflight(mode)
	n.listen("192.0.2.1:443", serveTLS(other.TLSConfig(), nil))
	w.ca.Resolve("a.example.com", acmetest.Target{TLSConfig: other.TLSConfig()})
	w.cache.put(func(ctx context.Context, key string) error {
		if !strings.HasSuffix(key, "+token") {
			return nil
		}
		return put(ctx)
	})
}

// slow returns a callback that takes d, or until its context ends if it heeds it.
func slow(d time.Duration, heeds bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		return 1, flight.Sleep(ctx, d)
	}
}
