package main

import (
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A new version of the site, with one more host, is deployed while the CA is
// down.
func TestOutageOfTheCA(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start("www.example.com")
		mustGet(t, w.client, "www.example.com")
		w.stop()

		fault := w.ca.Drop(acmetest.Match{})
		requests := w.ca.Count(acmetest.Any)
		w.start("www.example.com", "shop.example.com")
		for range 60 {
			start := time.Now()
			mustGet(t, w.client, "www.example.com")
			err := w.refusal("shop.example.com")
			if !errors.Is(err, certmgr.ErrCAUnavailable) && !errors.Is(err, certmgr.ErrInFlight) { // just tried again
				t.Fatalf("shop.example.com was refused for another reason: %v", err)
			}
			if d := time.Since(start); d > time.Second {
				t.Fatalf("the visitors waited %v for a CA that is down", d)
			}
			time.Sleep(time.Minute)
		}
		if n := w.ca.Count(acmetest.Any) - requests; n > 90 { // after 2 min one in 30 s, after 15 min one in 5 min
			t.Errorf("the CA got %d requests in an hour of its outage", n)
		}
		if down := w.events.of(audit.CAUnavailable); len(down) == 0 || down[0].RetryAt.IsZero() {
			t.Errorf("nobody was told that the CA is down: %v", down)
		}

		fault.Lift()
		time.Sleep(20 * time.Minute) // without a visitor
		requests = w.ca.Count(acmetest.Any)
		mustGet(t, w.client, "shop.example.com")
		if n := w.ca.Count(acmetest.Any) - requests; n != 0 {
			t.Errorf("the certificate was not issued before the visitor came, with %d requests", n)
		}
		if up := w.events.of(audit.CAAvailable); len(up) != 1 {
			t.Errorf("nobody was told that the CA is back: %v", up)
		}
	})
}
