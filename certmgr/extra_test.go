package certmgr_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// failFor makes a.example.com fail n times in a row, and lifts the cause.
func failFor(w *world, n int) {
	w.t.Helper()
	fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no such machine"})
	for i := range n {
		_, err := w.get("a.example.com")
		issue, ok := errors.AsType[*certmgr.IssuanceError](err)
		if !ok {
			w.t.Fatal(err)
		}
		if i < n-1 {
			time.Sleep(time.Until(issue.RetryAt))
		}
	}
	fault.Lift()
	time.Sleep(time.Second)
}

// Whoever repairs the cause and restarts the server need not wait for the end of
// the backoff.
func TestRepairedThenRestartedWorks(t *testing.T) {
	t.Parallel()
	t.Run("visitor", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			failFor(w, 5)
			w.wantErr("a.example.com", certmgr.ErrBackoff)
			w.restart()
			w.mustGet("a.example.com")
			if e := w.events.of(audit.IssuanceStarted); !strings.Contains(e[len(e)-1].Reason, "the process was restarted") {
				t.Errorf("the event does not say why: %v", e[len(e)-1])
			}
		})
	})
	t.Run("under another name, as containers are", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			failFor(w, 5)
			w.editRecord("a.example.com", func(record map[string]any) { record["machine"] = "5f0c2a9b7d31" })
			w.restart()
			w.mustGet("a.example.com")
		})
	})
	t.Run("Start", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			failFor(w, 5)
			w.restart()
			if err := w.m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if certmgr.InMemory(w.m, "a.example.com") == 0 {
				t.Errorf("no certificate after a minute: %+v", w.m.Snapshot().Hosts)
			}
		})
	})
	t.Run("renewal", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			first := w.mustGet("a.example.com")
			fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "moved"})
			time.Sleep(62 * day)
			fault.Lift()
			w.restart()
			w.mustGet("a.example.com")
			time.Sleep(10 * time.Minute)
			if w.mustGet("a.example.com").Leaf.Equal(first.Leaf) {
				t.Error("not renewed within 10 minutes of the restart")
			}
		})
	})
}

// Two restarts an hour earn an attempt; then one earns it as soon as an hour has
// passed since the first.
func TestRestartsEarnTwoAttemptsAnHour(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
		w.m.Backoff = []time.Duration{day}
		w.get("a.example.com")
		begin := time.Now()
		for time.Since(begin) < 5*time.Hour {
			time.Sleep(5 * time.Minute)
			w.restart()
			w.m.Backoff = []time.Duration{day}
			_, err := w.get("a.example.com")
			issue, ok := errors.AsType[*certmgr.IssuanceError](err)
			if !ok || time.Until(issue.RetryAt) > 27*time.Hour {
				t.Fatalf("%v", err)
			}
		}
		if n := w.orders("a.example.com"); n < 1+8 || n > 1+10 {
			t.Errorf("%d orders in 5 hours, want about 11", n)
		}
	})
}

// The attempt is recorded before it begins: a process that dies during it has
// spent it.
func TestExtraAttemptIsRecordedFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		failFor(w, 3)
		w.ca.Delay(acmetest.Match{}, 10*time.Second)
		for range 10 {
			w.restart()
			w.m.HandshakeWait = -1
			w.get("a.example.com")
			time.Sleep(5 * time.Second) // and it dies before there is an order
		}
		if n := len(w.events.of(audit.IssuanceStarted)); n != 3+2 {
			t.Errorf("%d attempts began, want 3 and 2 for restarts", n)
		}
	})
}

// What cannot be recorded is not earned: a crash loop would have no end.
func TestExtraAttemptNeedsItsRecord(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		failFor(w, 3)
		w.cache.put(func(context.Context, string) error { return errors.New("read-only file system") })
		for range 5 {
			w.restart()
			w.wantErr("a.example.com", certmgr.ErrBackoff)
			time.Sleep(time.Second)
		}
		w.wantOrders("a.example.com", 3)
	})
}

// Retry-After is the CA's wish, which a restart does not change.
func TestRestartObeysRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"7200"}}, acmetest.Problem{Type: "rateLimited", Detail: `too many certificates for "a.example.com"`})
		w.get("a.example.com")
		fault.Lift()
		for range 11 {
			time.Sleep(10 * time.Minute)
			w.restart()
			w.wantErr("a.example.com", certmgr.ErrBackoff)
		}
		time.Sleep(10 * time.Minute)
		w.mustGet("a.example.com")
	})
}

// A process that is alive, on this machine or another one, has not been repaired
// by a restart of this one, and holds nothing back for more than 10 minutes.
func TestLiveProcessHoldsBackForTenMinutes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first, other := w.m, w.manager()
		defer first.Close()
		if err := other.Obtain(t.Context(), "b.example.com"); err != nil { // it has begun
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.m.Backoff = []time.Duration{day}
		failFor(w, 1)
		w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig()})
		w.m = other
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		time.Sleep(10 * time.Minute)
		w.mustGet("a.example.com")
	})
}

// A list that flaps gains no more than a process that restarts.
func TestFlappingListEarnsTwoAttemptsAnHour(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"failing": func(w *world) {
			w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
		},
		"paused": func(w *world) { pauseHost(w, "a.example.com") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				fail(w)
				w.m.Backoff = []time.Duration{day}
				w.get("a.example.com")
				for range 100 {
					w.m.Hosts.Remove("a.example.com")
					time.Sleep(15 * time.Second)
					w.m.Hosts.Add("a.example.com")
					time.Sleep(15 * time.Second)
					w.get("a.example.com")
				}
				w.wantOrders("a.example.com", 1+2)
			})
		})
	}
}

// Settings that change each time are limited too. The record does not show the key
// of the account binding.
func TestChangedSettingsEarnFiveAttemptsAnHour(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key := []byte("the key of an external account")
		lift := pauseHost(w, "a.example.com")
		for n := range 20 {
			w.restart()
			w.m.Email = fmt.Sprintf("ops%d@example.org", n)
			w.m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "kid", Key: key}
			w.get("a.example.com")
			time.Sleep(time.Minute)
		}
		w.wantOrders("a.example.com", 1+5)
		entry, err := w.cache.Cache.Get(t.Context(), "a.example.com+failure")
		for _, secret := range []string{string(key), hex.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key), "ops", "kid"} {
			if err != nil || bytes.Contains(entry, []byte(secret)) {
				t.Errorf("the record holds %q: %s, %v", secret, entry, err)
			}
		}
		lift()
		time.Sleep(day)
		w.restart()
		w.get("a.example.com")
	})
}
