package certmgr_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A crash loop earns two attempts an hour, and each process knows the reason.
func TestCrashLoopLeavesTheCAAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no such machine"})
		w.get("a.example.com")
		for n := range 100 { // for 50 minutes, a restart each half minute
			time.Sleep(30 * time.Second)
			w.restart()
			_, err := w.get("a.example.com")
			if errors.Is(err, certmgr.ErrBackoff) != (n >= 2) {
				t.Fatalf("restart %d: %v", n+1, err)
			}
			problem, ok := errors.AsType[*acme.Error](err)
			if !ok || problem.ProblemType != "urn:ietf:params:acme:error:unauthorized" || !strings.Contains(err.Error(), "no such machine") {
				t.Fatalf("after restart %d the reason is gone: %v", n+1, err)
			}
		}
		w.wantOrders("a.example.com", 1+2)
	})
}

// A crash loop during an account-wide rate limit orders no more than once.
func TestCrashLoopDuringAnOutageLeavesTheCAAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("d.example.com")
		n := w.ca.Count(acmetest.NewOrder)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 429, http.Header{"Retry-After": {"3600"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
		for range 10 {
			w.restart()
			w.get("a.example.com")
			time.Sleep(5 * time.Second)
		}
		if d := w.ca.Count(acmetest.NewOrder) - n; d > 1 {
			t.Errorf("%d orders in 10 restarts within 50 s, the CA said Retry-After: 3600", d)
		}
	})
}

// A crash loop while a renewal fails earns no more than two attempts an hour.
func TestCrashLoopWithFailingRenewalLeavesTheCAAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "moved"})
		time.Sleep(65 * day)
		n := w.orders("a.example.com")
		t.Log("orders by the first process", n-1)
		for range 20 {
			w.restart()
			w.mustGet("a.example.com")
			time.Sleep(10 * time.Second)
		}
		if d := w.orders("a.example.com") - n; d > 2 {
			t.Errorf("%d failing orders in 20 restarts within 200 s, want 2 at most", d)
		}
	})
}

// A record that another machine made since this process began holds a host back
// for 10 minutes at most, and one's own until Hosts.Add.
func TestForeignFailureHoldsBackForTenMinutes(t *testing.T) {
	late := func(w *world) {
		data, err := json.Marshal(map[string]any{"host": "a.example.com", "stage": "challenge", "ca": w.ca.URL, "attempts": 30,
			"machine": "other", "time": time.Now(), "retryAt": time.Now().Add(24 * time.Hour), "cause": "firewalled"})
		if err != nil {
			w.t.Fatal(err)
		}
		w.cache.Cache.Put(w.t.Context(), "a.example.com+failure", data)
	}
	t.Run("another machine", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("b.example.com")
			time.Sleep(time.Second)
			late(w)
			time.Sleep(time.Minute)
			if err := w.wantErr("a.example.com", certmgr.ErrBackoff); !strings.Contains(err.Error(), "firewalled (seen by other)") {
				t.Errorf("%q does not say whose failure it is", err)
			}
			time.Sleep(9 * time.Minute)
			w.mustGet("a.example.com")
		})
	})
	t.Run("Hosts.Add", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.Backoff = []time.Duration{24 * time.Hour}
			fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			w.get("a.example.com")
			fault.Lift()
			time.Sleep(time.Hour)
			w.wantErr("a.example.com", certmgr.ErrBackoff)
			w.m.Hosts.Add("a.example.com")
			w.mustGet("a.example.com")
		})
	})
}

// However damaged a record is, or whoever wrote it, it does not keep a host or
// the CA waiting for ever.
func TestRecordOfCenturiesEndsInTime(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	const year = 365 * 24 * time.Hour
	for name, tt := range map[string]struct {
		key    string
		fields map[string]any
		most   time.Duration
	}{
		"host":              {"a.example.com+failure", nil, 31 * 24 * time.Hour},
		"paused host":       {"a.example.com+failure", map[string]any{"state": certmgr.StatePaused}, 31 * 24 * time.Hour},
		"host with a clock": {"a.example.com+failure", map[string]any{"clockOff": true, "machine": machine}, year + 36*24*time.Hour},
		"CA":                {"acme_ca+failure", map[string]any{"host": ""}, 31 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				never := time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
				rec := map[string]any{"host": "a.example.com", "stage": "challenge", "ca": w.ca.URL, "attempts": 1 << 30, "orders": 1 << 30,
					"machine": "other", "time": time.Now(), "retryAt": never, "asked": never, "cause": "damaged"}
				maps.Copy(rec, tt.fields)
				data, err := json.Marshal(rec)
				if err != nil {
					t.Fatal(err)
				}
				w.cache.Cache.Put(t.Context(), tt.key, data)
				w.wantErr("a.example.com", certmgr.ErrBackoff)
				time.Sleep(tt.most)
				w.mustGet("a.example.com")
			})
		})
	}
}

// A backoff that is restored after a restart is an event.
func TestRestoredBackoffIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"})
		w.get("a.example.com")
		time.Sleep(time.Second)
		w.spendExtras("a.example.com")
		w.restart()
		n := len(w.events.events)
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		synctest.Wait()
		for _, e := range w.events.events[n:] {
			if e.Kind != audit.HandshakesRefused && e.Kind != audit.ManagerClosed {
				return
			}
		}
		t.Errorf("no event of the state that was restored: %v", w.events.events[n:])
	})
}
