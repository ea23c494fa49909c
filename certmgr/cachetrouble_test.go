package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

var errDisk = errors.New("disk on fire")

func TestUnreadableCacheNeverOrders(t *testing.T) {
	tests := []struct {
		name  string
		fault func(w *world, ctx context.Context) error
		takes time.Duration
	}{
		{"error", func(*world, context.Context) error { return errDisk }, 0},
		{"hang that honours its context", func(_ *world, ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 5 * time.Second},
		{"hang that does not", func(w *world, _ context.Context) error { w.cache.hang(); return nil }, 5 * time.Second},
		{"panic", func(*world, context.Context) error { panic("boom") }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("b.example.com")
				w.cache.get(func(ctx context.Context, key string) error {
					if strings.HasPrefix(key, "a.example.com") {
						return tt.fault(w, ctx)
					}
					return nil
				})
				start := time.Now()
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrCache) || !strings.Contains(err.Error(), "a.example.com") {
							t.Errorf("got %v, want ErrCache and the host", err)
						}
					})
				}
				synctest.Wait()
				w.mustGet("b.example.com") // harmed by nothing
				w.mustGet("c.example.com")
				wg.Wait()
				if d := time.Since(start); d < tt.takes || d > tt.takes+time.Second {
					t.Errorf("the visitors waited %v, want %v", d, tt.takes)
				}
				w.wantOrders("a.example.com", 0)
				if events := w.events.of(audit.CacheReadFailed); len(events) == 0 || events[0].Host != "a.example.com" {
					t.Errorf("the failure was not reported: %v", events)
				}
				w.cache.get(nil)
				w.cache.release()
				time.Sleep(failedFor)
				w.mustGet("a.example.com")
			})
		})
	}
}

// While a read hangs forever, no handshake waits for it a second time.
func TestStuckReadIsNotWaitedForAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
		w.get("a.example.com")
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		w.wantErr("a.example.com", certmgr.ErrCache)
		if reads := w.cache.reads(); len(reads) != 0 {
			t.Errorf("a second read began behind a stuck one: %q", reads)
		}
	})
}

func TestConcurrentFirstVisitorsAllGetTheCachedCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var hosts []string
		for i := range 100 {
			hosts = append(hosts, fmt.Sprintf("host%d.example.net", i))
		}
		w.m.Hosts.Add(hosts...)
		for _, h := range hosts {
			w.mustGet(h)
		}
		w.restart()
		w.m.Hosts.Add(hosts...)
		w.cache.get(func(ctx context.Context, key string) error { return flight.Sleep(ctx, 50*time.Millisecond) })
		requests := w.ca.Count(acmetest.Any)
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		start := time.Now()
		var wg sync.WaitGroup
		for _, h := range hosts {
			for range 5 {
				wg.Go(func() { w.mustGet(h) })
			}
		}
		wg.Wait()
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("500 visitors of 100 hosts were served in %v, want one read's time (50 ms)", d)
		}
		if n := len(w.cache.otherReads()); n != 100 {
			t.Errorf("%d cache reads, want one for each host", n)
		}
		if n := w.ca.Count(acmetest.Any) - requests; n != 0 {
			t.Errorf("%d CA requests with a warm cache, want 0", n)
		}
	})
}

func TestFailedWriteIsServedReportedAndTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com") // has the account key written
		w.cache.put(func(ctx context.Context, key string) error { return errDisk })
		w.mustGet("a.example.com")
		failed := w.events.of(audit.CacheWriteFailed)
		if !slices.ContainsFunc(failed, func(e audit.Event) bool { return e.Host == "a.example.com" && errors.Is(e.Err, errDisk) }) {
			t.Fatalf("the failed write was not reported: %v", failed)
		}
		time.Sleep(time.Minute)
		w.mustGet("a.example.com")
		w.cache.put(nil)
		time.Sleep(10 * time.Minute)
		if _, err := w.cache.Get(t.Context(), "a.example.com"); err != nil {
			t.Errorf("the write was not tried again: %v", err)
		}
		if n := len(w.events.of(audit.CacheWriteRecovered)); n != 1 {
			t.Errorf("%d events of the recovery, want 1", n)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// Nothing waits for a write that hangs: not the handshake that began the
// issuance, nor the next one, nor another host.
func TestHungWriteDelaysNobody(t *testing.T) {
	hangs := map[string]func(w *world, ctx context.Context) error{
		"heeds its context": func(_ *world, ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"ignores it":        func(w *world, _ context.Context) error { w.cache.hang(); return nil },
	}
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("b.example.com")
				w.cache.put(func(ctx context.Context, key string) error {
					if key == "a.example.com" {
						return hang(w, ctx)
					}
					return nil
				})
				var wg sync.WaitGroup
				start := time.Now()
				wg.Go(func() {
					w.mustGet("a.example.com")
					if d := time.Since(start); d > 2*time.Second {
						t.Errorf("the first visitor waited %v", d)
					}
				})
				time.Sleep(time.Second)
				w.mustGet("a.example.com") // from memory, while the write hangs
				other := time.Now()
				w.mustGet("c.example.com")
				if d := time.Since(other); d > time.Second {
					t.Errorf("another host's issuance took %v behind a hung write", d)
				}
				wg.Wait()
			})
		})
	}
}

func TestDamagedAccountKeyIsAnErrorAndStays(t *testing.T) {
	for _, damaged := range []string{"", "not PEM", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.cache.Cache.Put(t.Context(), accountCacheKey, []byte(damaged))
			_, err := w.get("a.example.com")
			issue, ok := errors.AsType[*certmgr.IssuanceError](err)
			if !ok || issue.Stage != audit.StageAccount || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("got %v, want an account error that says what is damaged", err)
			}
			got, err := w.cache.Cache.Get(t.Context(), accountCacheKey)
			if err != nil || string(got) != damaged {
				t.Errorf("the damaged key was overwritten by %q, %v", got, err)
			}
			if n := w.ca.Count(acmetest.NewAccount) + w.ca.Count(acmetest.NewOrder); n != 0 {
				t.Errorf("%d requests for accounts or orders with a damaged key", n)
			}
			_, err = w.get("b.example.com")
			if e := w.events.of(audit.CAUnavailable); errors.Is(err, certmgr.ErrCAUnavailable) || len(e) > 0 {
				t.Errorf("the CA is blamed for it: %v, %v", err, e)
			}
		})
	}
}

func TestUnreadableAccountKeyMakesNoNewOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		w.restart()
		w.cache.get(func(_ context.Context, key string) error {
			if strings.HasPrefix(key, "acme_account") {
				return errDisk
			}
			return nil
		})
		if _, err := w.get("a.example.com"); !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the cache's error", err)
		}
		if n := len(w.ca.Accounts()); n != 1 {
			t.Errorf("%d accounts, want 1", n)
		}
		w.cache.get(nil)
		time.Sleep(2 * time.Minute)
		w.mustGet("a.example.com")
	})
}

// An account whose key is lost at the next start would be one of the few that a
// CA allows.
func TestAccountKeyThatCannotBeSavedIsNotUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.put(func(_ context.Context, key string) error {
			if key == accountCacheKey {
				return errDisk
			}
			return nil
		})
		if _, err := w.get("a.example.com"); !errors.Is(err, errDisk) {
			t.Errorf("got %v, want the cache's error", err)
		}
		w.wantErr("b.example.com", certmgr.ErrNoAccount)
		if n := w.ca.Count(acmetest.NewAccount); n != 0 {
			t.Errorf("%d registrations with a key that is not saved", n)
		}
	})
}

func TestManagerWorksWithoutACache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = nil
		w.mustGet("a.example.com")
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 1)
	})
}

func TestWrappedMissIsAMiss(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return fmt.Errorf("redis: %w", cache.ErrMiss) })
		w.mustGet("a.example.com")
	})
}

// A cache that fails at once makes no event for each handshake.
func TestFailingCacheFloodsNoLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cache.get(func(context.Context, string) error { return errors.New("refused") })
		for range 1000 {
			w.get("a.example.com")
		}
		if n := len(w.events.of(audit.CacheReadFailed)); n > 10 {
			t.Errorf("%d events, %d reads for 1000 handshakes in an instant", n, len(w.cache.reads()))
		}
	})
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
