package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
)

var errOutage = errors.New("cache out of order")

// failReads makes every read of the cache fail that follows from a request.
func (w *world) failReads() {
	w.cache.get(func(_ context.Context, key string) error {
		if key == visitsKey {
			return nil
		}
		return errOutage
	})
}

// What strangers choose (tokens, names below a wildcard, names that a policy allows)
// makes one event a minute, however much of it comes.
func TestStrangersChoicesMakeOneEventAMinute(t *testing.T) {
	tests := []struct {
		name  string
		setUp func(w *world)
		ask   func(w *world, i int)
		kind  audit.Kind
	}{
		{"http-01 tokens while the cache is out of order", (*world).failReads,
			func(w *world, i int) { w.askPort80("a.example.com", fmt.Sprintf("token%d", i)) }, audit.CacheReadFailed},
		{"names below a wildcard while the cache is out of order",
			func(w *world) { w.failReads(); w.m.Hosts.Add("*.example.net") },
			func(w *world, i int) { w.get(fmt.Sprintf("n%d.example.net", i)) }, audit.CacheReadFailed},
		{"names that a policy allows while the cache is out of order",
			func(w *world) { w.failReads(); w.m.HostPolicy = func(context.Context, string) error { return nil } },
			func(w *world, i int) { w.get(fmt.Sprintf("n%d.example.net", i)) }, audit.CacheReadFailed},
		{"names that a policy cannot decide about",
			func(w *world) { w.m.HostPolicy = func(context.Context, string) error { return certmgr.ErrPolicy } },
			func(w *world, i int) { w.get(fmt.Sprintf("n%d.example.net", i)) }, audit.PolicyFailed},
		{"names below a wildcard whose entries are damaged",
			func(w *world) {
				w.m.Hosts.Add("*.example.net")
				w.m.HandshakeWait = -1
				w.m.Cache = damagedCache{w.cache}
			},
			func(w *world, i int) { w.get(fmt.Sprintf("n%d.example.net", i)) }, audit.CacheEntryRejected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.setUp(w)
				const visits = 500
				for i := range visits {
					tt.ask(w, i)
				}
				events := w.events.of(tt.kind)
				if len(events) != 1 || events[0].Count != 1 {
					t.Fatalf("%d events for %d names, the first with count %d: want 1 and 1", len(events), visits, events[0].Count)
				}
				time.Sleep(coalesceFor)
				tt.ask(w, visits)
				events = w.events.of(tt.kind)
				if len(events) != 2 || events[1].Count < visits {
					t.Fatalf("%d events after a minute, want a second one that counts %d or more: %v", len(events), visits, events)
				}
				tt.ask(w, visits+1)
				w.m.Close()
				if events = w.events.of(tt.kind); len(events) != 3 || events[2].Err == nil {
					t.Errorf("%d events after Close, want a third one for the rest, with an example: %v", len(events), events)
				}
			})
		})
	}
}

// askPort80 is a request for a token by a stranger.
func (w *world) askPort80(host, token string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "http://"+host+challenge.Path+token, nil)
	w.m.HTTPHandler(nil).ServeHTTP(rec, req)
	return rec
}

// damagedCache has garbage for each host.
type damagedCache struct{ certmgr.Cache }

func (c damagedCache) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.Contains(key, ".") && !strings.Contains(key, "+") {
		return []byte("garbage"), nil
	}
	return c.Cache.Get(ctx, key)
}

// A flood does not hide what happens to hosts that are on the list by name.
func TestFloodHidesNoFailureOfAListedHost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.failReads()
		w.m.Hosts.Add("*.example.net")
		for i := range 1000 {
			w.get(fmt.Sprintf("n%d.example.net", i))
			w.askPort80("a.example.com", fmt.Sprintf("token%d", i))
		}
		w.get("a.example.com")
		w.get("b.example.com")
		got := make(map[string]int)
		for _, e := range w.events.of(audit.CacheReadFailed) {
			got[e.Host]++
		}
		for _, host := range []string{"a.example.com", "b.example.com"} {
			if got[host] == 0 {
				t.Errorf("no event for %s: %v", host, got)
			}
		}
	})
}

// An outage of the cache makes a bounded number of events, however long the list.
func TestOutageMakesNoEventForEachListedHost(t *testing.T) {
	const maxGroups = 256
	inBubble(t, func(t *testing.T, w *world) {
		w.failReads()
		for i := range 3 * maxGroups {
			host := fmt.Sprintf("h%d.example.net", i)
			w.m.Hosts.Add(host)
			w.get(host)
		}
		if n := len(w.events.of(audit.CacheReadFailed)); n > maxGroups+2 {
			t.Errorf("%d events, want at most %d", n, maxGroups+2)
		}
		time.Sleep(coalesceFor)
		w.get("a.example.com")
		total := 0
		for _, e := range w.events.of(audit.CacheReadFailed) {
			total += e.Count
		}
		if total < 3*maxGroups {
			t.Errorf("the events tell of %d failures, want %d or more", total, 3*maxGroups)
		}
	})
}

// A token whose answer no file could hold is not looked for.
func TestLongTokensAreNotLookedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.failReads()
		long := strings.Repeat("a", challenge.MaxToken+1)
		if rec := w.askPort80("a.example.com", long); rec.Code != http.StatusNotFound || len(w.cache.reads()) != 0 {
			t.Errorf("status %d, want 404 and no read", rec.Code)
		}
		if n := len(challenge.HTTP01Key(long[1:])); n > 255 {
			t.Errorf("the longest token makes a key of %d bytes, which is no file name", n)
		}
	})
}

// Those who waited for minutes, and began at different times, make one event when
// all of them are refused at once.
func TestRefusalsOfThoseWhoWaitedAreOneEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.InFlightWait, w.m.HandshakeWait = time.Hour, time.Hour
		w.ca.Delay(acmetest.Match{}, 9500*time.Millisecond)
		const visitors = 80 // a second apart
		done := make(chan struct{})
		for range visitors {
			go func() { w.get("a.example.com"); done <- struct{}{} }()
			time.Sleep(time.Second)
		}
		w.m.Hosts.Remove("a.example.com")
		for range visitors {
			<-done
		}
		if refused := w.events.of(audit.HandshakesRefused); len(refused) != 1 {
			t.Errorf("%d events", len(refused))
		}
	})
}
