package certmgr_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A name was moved away but stayed on the list. It is reported, and so is one
// that no client asks for, across restarts.
func TestStaleNamesWhatToTakeOffTheList(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org", "*.example.net")
		w.ca.FailValidation("b.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
		w.m.Start(t.Context())
		for d := range 40 {
			w.get("a.example.com")
			w.get("b.example.com")
			w.get("www.example.org")
			if d < 5 {
				w.get("d.example.com")
			}
			time.Sleep(day)
			if d%10 == 9 {
				w.restart()
				w.m.Hosts.Add("*.example.org", "*.example.net")
				w.m.Start(t.Context())
			}
		}
		synctest.Wait()
		if early := w.m.StaleHosts(100 * day); len(early) != 0 {
			t.Errorf("after 40 days, nothing for 100 days: %+v", early)
		}
		stale := w.m.StaleHosts(30 * day)
		want := map[string]string{
			"*.example.net": "no client asked for it since watching began",
			"b.example.com": "no certificate was issued for it since watching began",
			"c.example.com": "no client asked for it since watching began",
			"d.example.com": "no client asked for it since 2000-01-05",
		}
		if len(stale) != len(want) {
			t.Errorf("%d entries, want %d: %+v", len(stale), len(want), stale)
		}
		for _, h := range stale {
			if want[h.Entry] == "" || !strings.Contains(h.Reason, want[h.Entry]) {
				t.Errorf("%s: %q, want %q", h.Entry, h.Reason, want[h.Entry])
			}
			if h.Entry == "b.example.com" && (h.Failure == nil || !strings.Contains(h.Failure.Error(), "wrong machine") || h.LastRequested.IsZero()) {
				t.Errorf("the CA's reason is missing: %+v", h)
			}
		}
		w.m.Hosts.Remove("c.example.com", "*.example.net")
		synctest.Wait()
		if again := w.m.StaleHosts(30 * day); len(again) != 2 {
			t.Errorf("after a removal: %+v", again)
		}
		w.m.Hosts.Add("c.example.com")
		time.Sleep(10 * day)
		for _, h := range w.m.StaleHosts(30 * day) {
			if h.Entry == "c.example.com" {
				t.Errorf("added 10 days ago, and stale for 30: %+v", h)
			}
		}
	})
}

// A cache that is damaged, or hangs, costs the memory of days and nothing else.
func TestVisitsSurviveABadCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if err := w.cache.Cache.Put(t.Context(), visitsKey, []byte(`{"hosts":`)); err != nil {
			t.Fatal(err)
		}
		w.mustGet("a.example.com")
		time.Sleep(2 * time.Minute)
		if n := len(w.events.of(audit.CacheEntryRejected)); n != 1 {
			t.Errorf("%d events for a damaged record", n)
		}
		if data, err := w.cache.Cache.Get(t.Context(), visitsKey); err != nil || !strings.Contains(string(data), `"a.example.com"`) {
			t.Errorf("it was not written anew: %q, %v", data, err)
		}
		w.cache.get(func(_ context.Context, key string) error {
			if key == visitsKey {
				return errors.New("disk")
			}
			return nil
		})
		time.Sleep(48 * time.Hour)
		w.mustGet("a.example.com")
	})
}

// What HostPolicy allows adds no entries to what is known of the list's.
func TestOpenPolicyAddsNoEntries(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = certmgr.AllowAnyHost
		w.mustGet("www.stranger.net")
		time.Sleep(2 * time.Hour)
		w.mustGet("www.stranger.net")
		if data, err := w.cache.Get(t.Context(), visitsKey); err != nil || strings.Contains(string(data), "stranger.net") {
			t.Errorf("a stranger's name made an entry that nothing bounds: %s, %v", data, err)
		}
	})
}

// An entry is watched from when it comes onto the list, also if its host was
// allowed by something else before.
func TestEntryIsWatchedSinceItIsOnTheList(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org")
		w.mustGet("www.example.org")
		time.Sleep(40 * day)
		w.m.Hosts.Add("www.example.org")
		for _, h := range w.m.StaleHosts(30 * day) {
			if h.Entry == "www.example.org" {
				t.Errorf("just added: %+v", h)
			}
		}
	})
}

// The record of visits is written again when the Cache lost it, or has a damaged
// one, which is told once.
func TestVisitsAreWrittenAgain(t *testing.T) {
	for name, content := range map[string]string{"damaged": `{"hosts":`, "overwritten": `{"hosts":{}}`} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				time.Sleep(2 * time.Hour)
				want, err := w.cache.Cache.Get(t.Context(), visitsKey)
				if err != nil {
					t.Fatal(err)
				}
				w.cache.Cache.Put(t.Context(), visitsKey, []byte(content))
				time.Sleep(day) // they are read once a day
				if got, _ := w.cache.Cache.Get(t.Context(), visitsKey); !bytes.Equal(got, want) {
					t.Errorf("the Cache has %s, want %s", got, want)
				}
				if n := len(w.events.of(audit.CacheEntryRejected)); n > 1 {
					t.Errorf("%d events", n)
				}
			})
		})
	}
}

// A clock that has not been set yet, or was not when the record was made, makes no
// entry stale.
func TestClockThatWasNotSetMakesNothingStale(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var set atomic.Bool
		certmgr.SetClock(w.m, func() time.Time {
			if set.Load() {
				return time.Now()
			}
			return time.Unix(3600, 0)
		})
		w.m.Start(t.Context())
		synctest.Wait()
		set.Store(true)
		if stale := w.m.StaleHosts(30 * day); len(stale) != 0 {
			t.Errorf("%+v", stale)
		}
	})
}
