package main

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// The CA says how long to wait. Until then no order is placed, however many
// clients come.
func TestRateLimitIsObeyed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"7200"}}, acmetest.Problem{Detail: "too many certificates for example.com"})
		due := time.Now().Add(2 * time.Hour)
		w.start("www.example.com")
		for ; time.Until(due) > time.Minute; time.Sleep(time.Minute) {
			err := w.refusal("www.example.com")
			reason, ok := errors.AsType[*certmgr.IssuanceError](err)
			if !ok || reason.RetryAt.Before(due) {
				t.Fatalf("want a refusal until %v at least: %v", due, err)
			}
		}
		if n := w.ca.Count(acmetest.NewOrder); n != 1 {
			t.Fatalf("%d orders before the time that the CA gave", n)
		}
		time.Sleep(10 * time.Minute)
		mustGet(t, w.client, "www.example.com")
	})
}
