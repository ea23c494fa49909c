package certmgr_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// outage has the CA refuse all orders for d, while somebody asks now and then, and ends
// it after a failure.
func outage(w *world, header http.Header, p acmetest.Problem, status int, d time.Duration) {
	w.t.Helper()
	fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, status, header, p)
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(10 * time.Second) {
		w.get("a.example.com")
	}
	for range 1000 { // until it has just failed again
		n := w.ca.Count(acmetest.NewOrder)
		time.Sleep(time.Second)
		if w.get("a.example.com"); w.ca.Count(acmetest.NewOrder) > n {
			break
		}
	}
	time.Sleep(15 * time.Second) // for the second try after a 429
	fault.Lift()
}

var accountLimit = acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"}

// What was recorded of the CA does not outlast a repair by a restart, either.
func TestRestartEarnsAProbeOfTheCA(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		outage(w, nil, accountLimit, http.StatusTooManyRequests, 10*time.Minute)
		if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrCAUnavailable) {
			t.Fatalf("before the restart: %v", err)
		}
		w.restart()
		w.mustGet("a.example.com")
	})
}

// A crash loop earns two orders an hour. Otherwise the CA is tried as often as
// without it, every 15 minutes.
func TestCrashLoopEarnsTwoProbesAnHour(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		outage(w, nil, accountLimit, http.StatusTooManyRequests, 30*time.Minute)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusTooManyRequests, nil, accountLimit)
		n := w.ca.Count(acmetest.NewOrder)
		for begin := time.Now(); time.Since(begin) < 50*time.Minute; time.Sleep(10 * time.Second) {
			w.restart()
			w.get("a.example.com")
		}
		if d := (w.ca.Count(acmetest.NewOrder) - n) / 2; d < 2+2 || d > 2+4 { // each is sent again once
			t.Errorf("%d orders in 50 minutes, want 2 and one every 15 minutes", d)
		}
	})
}

// A Retry-After holds over restarts in full, and not for other settings.
func TestRestartObeysTheCAsRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		outage(w, http.Header{"Retry-After": {"7200"}}, accountLimit, http.StatusTooManyRequests, 0)
		for range 11 {
			time.Sleep(10 * time.Minute)
			w.restart()
			if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrCAUnavailable) {
				t.Fatalf("before the end of Retry-After: %v", err)
			}
		}
		w.restart()
		w.m.Email = "ops@example.org"
		w.mustGet("a.example.com")
	})
}

// An outage that another process, which is alive, has recorded holds this one
// back for 10 minutes at most, unless the CA asked for the wait. That of another
// CA does not count.
func TestOutageThatAnotherProcessRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		fields map[string]any
		wait   time.Duration
	}{
		"this CA's":            {nil, 10 * time.Minute},
		"that the CA asks for": {map[string]any{"asked": true}, 2 * time.Hour},
		"another CA's":         {map[string]any{"ca": "https://other.example/directory"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Snapshot() // from here on the process is alive
				time.Sleep(time.Minute)
				until := time.Now().Add(2 * time.Hour)
				rec := map[string]any{"ca": w.ca.URL, "machine": "other", "process": "other", "attempts": 3, "orders": 3,
					"time": time.Now(), "retryAt": until, "cause": "down"}
				maps.Copy(rec, tt.fields)
				if rec["asked"] != nil {
					rec["asked"] = until
				}
				data, err := json.Marshal(rec)
				if err != nil {
					t.Fatal(err)
				}
				w.cache.Cache.Put(t.Context(), "acme_ca+failure", data)
				if tt.wait > 0 {
					w.wantErr("a.example.com", certmgr.ErrCAUnavailable)
					time.Sleep(tt.wait - time.Minute)
					w.wantErr("b.example.com", certmgr.ErrCAUnavailable)
					time.Sleep(2 * time.Minute)
				}
				w.mustGet("c.example.com")
			})
		})
	}
}
