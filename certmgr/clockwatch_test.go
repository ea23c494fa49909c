package certmgr_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// A clock that is off is told once, until it is right again, whatever Preflight is.
func TestClockThatIsOffIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		renew := func(skew time.Duration, want int, text string) {
			t.Helper()
			w.ca.SetClockSkew(skew)
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
			events := w.events.of(audit.ClockOff)
			if len(events) != want {
				t.Fatalf("%d events, want %d: %v", len(events), want, events)
			}
			if text == "" {
				return
			}
			if e := events[want-1]; !errors.Is(e.Err, certmgr.ErrClock) || !strings.Contains(e.Err.Error(), text) || e.CA != w.ca.URL {
				t.Errorf("%v\ndoes not say %q", e, text)
			}
		}
		renew(4*time.Minute, 0, "")
		renew(10*time.Minute, 1, "the local clock is 10m0s behind the CA's; set it")
		renew(10*time.Minute, 1, "")
		renew(0, 1, "")
		renew(-20*time.Minute, 2, "the local clock is 20m0s ahead of the CA's; set it")
	})
}

// What a preflight finds says so too, as long as the CA's answer is fresh.
func TestPreflightTellsOfTheClock(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		n.name("a.example.com")
		w.ca.SetClockSkew(time.Hour)
		_, err := w.get("a.example.com")
		if err == nil || !strings.Contains(certmgr.InFull(err).Error(), "take it off the list; the local clock is 1h0m0s behind the CA's") {
			t.Errorf("got %v", err)
		}
		if found, _ := errors.AsType[*preflight.Error](err); found == nil || found.ClockSkew.Round(time.Second) != time.Hour { // a Date has whole seconds
			t.Errorf("got %+v", found)
		}
		if errors.Is(err, certmgr.ErrClock) {
			t.Error("ErrClock is about certificates that were issued")
		}
		time.Sleep(2 * time.Hour) // the CA was not asked since
		_, err = w.get("a.example.com")
		if !errors.Is(err, certmgr.ErrUnreachable) || strings.Contains(err.Error(), "clock") {
			t.Errorf("got %v", err)
		}
	})
}

// The local clock is the Manager's own, and one that certificates show to be off
// is told once and not twice.
func TestClockIsComparedWithTheManagers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(30 * time.Minute) })
		w.mustGet("a.example.com")
		if e := w.events.of(audit.ClockOff); len(e) != 1 || !strings.Contains(e[0].Err.Error(), "30m0s ahead of") {
			t.Errorf("events: %v", e)
		}
	})
}

// A CA without a Date, or behind an HTTP cache, says nothing about the clock.
func TestClockIsUnknownWithoutADate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withoutDates(w.m)
		w.ca.SetClockSkew(30 * time.Minute)
		w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig()})
		w.mustGet("a.example.com")
		if e := w.events.of(audit.ClockOff); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

type editHeader struct {
	http.RoundTripper
	key, value string
}

func (e editHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := e.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Header.Set(e.key, e.value)
	}
	return res, err
}

// Times recorded by a clock that was ahead are corrected everywhere as soon as
// the clock is found to be set back, not only on request.
func TestVisitsFollowAClockThatIsSetBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
		w.mustGet("a.example.com")
		time.Sleep(2 * time.Minute) // until visits are looked at once an hour
		skew.Store(int64(2 * day))
		w.mustGet("a.example.com")
		if asked := w.m.Snapshot().Hosts[0].LastRequested; !asked.After(time.Now()) {
			t.Errorf("last asked for %v, want a time in the future", asked)
		}
		time.Sleep(maxTimer + time.Second)
		skew.Store(0)
		time.Sleep(maxTimer + time.Second)
		if asked := w.m.Snapshot().Hosts[0].LastRequested; asked.IsZero() || asked.After(time.Now()) {
			t.Errorf("last asked for %v, which is in the future", asked)
		}
	})
}
