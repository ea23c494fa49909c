package certmgr_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

func TestRenewalSaysWhatItReplaces(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		w.renewedAt("a.example.com", first, 90*day)
		orders := w.ca.Orders()
		if len(orders) != 2 || orders[0].Replaces != "" || orders[1].Replaces != acmetest.CertID(first.Leaf) {
			t.Errorf("orders: %+v\nwant the second to replace the first's certificate", orders)
		}
	})
}

// What the CA does not accept as replaced is renewed without: another order
// replaced it, or it is another account's.
func TestRenewalWithoutReplacesIfTheCARefusesThat(t *testing.T) {
	for _, problem := range []acmetest.Problem{
		{Type: "alreadyReplaced", Status: http.StatusConflict},
		{Type: "unauthorized", Status: http.StatusForbidden},
		{Type: "malformed", Status: http.StatusNotFound},
	} {
		t.Run(problem.Type, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				first := w.mustGet("a.example.com")
				w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, problem.Status, nil, problem)
				w.renewedAt("a.example.com", first, 90*day)
				if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
					t.Errorf("the renewal failed: %v", failed)
				}
				if orders := w.ca.Orders(); len(orders) != 2 || orders[1].Replaces != "" {
					t.Errorf("orders: %+v", orders)
				}
			})
		})
	}
}

// A rate limit is no refusal of replaces: the order is not sent again without it, and
// the next attempt's has it.
func TestRateLimitIsNotTriedAgainWithoutReplaces(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"7200"}}, acmetest.Problem{Type: "rateLimited"})
		at := w.renewedAt("a.example.com", first, 90*day)
		failed := w.events.of(audit.IssuanceFailed)
		if len(failed) != 1 || at.Sub(failed[0].Time) < 2*time.Hour {
			t.Errorf("ordered again at %v after %v", at, failed)
		}
		if o := w.ca.Orders()[1]; o.Replaces != acmetest.CertID(first.Leaf) {
			t.Errorf("the order after the refusal replaces %q", o.Replaces)
		}
	})
}

// A CA without renewal information hears nothing of it.
func TestNoRenewalInfoNoReplaces(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		first := w.mustGet("a.example.com")
		at := w.renewedAt("a.example.com", first, 90*day)
		if left := first.Leaf.NotAfter.Sub(at); left > 33*day || left < 30*day-time.Hour {
			t.Errorf("renewed with %v left, want about a third", left)
		}
		if n := w.asks(); n != 0 {
			t.Errorf("the CA was asked %d times", n)
		}
		if o := w.ca.Orders()[1]; o.Replaces != "" {
			t.Errorf("the order replaces %q", o.Replaces)
		}
	}, func(ca *acmetest.Server) { ca.NoRenewalInfo = true })
}

// Renewal does not depend on a CA that can cope with replaces: Pebble v2.10.1 answers
// 500 for one serial number in 256. The attempt that meets that succeeds, so that no
// failure is counted.
func TestRenewalWithoutReplacesIfTheCABreaks(t *testing.T) {
	t.Parallel()
	for _, status := range []int{500, 405, 422, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
					if strings.Contains(string(r.Payload), `"replaces"`) {
						r.SetProblem(acmetest.Problem{Type: "serverInternal", Status: status, Detail: "could not find an order"})
					}
				})
				first := w.mustGet("a.example.com")
				w.renewedAt("a.example.com", first, 90*day)
				if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 || w.m.Snapshot().CAFailure != nil {
					t.Errorf("the renewal failed at first: %v", failed)
				}
				begin := time.Now()
				if err := w.m.Renew(t.Context(), "a.example.com"); err != nil || time.Since(begin) > 5*time.Second {
					t.Errorf("Renew after %v: %v", time.Since(begin), err)
				}
				open := 0
				for _, o := range w.ca.Orders() {
					if o.InFlight() {
						open++
					}
				}
				if open > 2 { // which the CA made and denied, one a renewal
					t.Errorf("%d orders are left open\n%v", open, w.ca)
				}
			})
		})
	}
}

// A CA that breaks the connection over replaces does not say why: the next attempt
// goes without.
func TestNextAttemptWithoutReplacesIfTheCAIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
			r.Drop = strings.Contains(string(r.Payload), `"replaces"`)
		})
		first := w.mustGet("a.example.com")
		w.renewedAt("a.example.com", first, 90*day)
		if failed := w.events.of(audit.IssuanceFailed); len(failed) != 1 {
			t.Errorf("%d attempts failed, want 1: %v", len(failed), failed)
		}
	})
}
