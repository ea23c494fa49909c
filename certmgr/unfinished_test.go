package certmgr_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A certificate that the CA has issued, or is issuing, is not ordered again
// because it did not arrive: Let's Encrypt issues 5 for the same names in 7 days.
func TestUnfinishedOrderIsResumed(t *testing.T) {
	certificate := acmetest.Match{Endpoint: acmetest.Certificate}
	orders := acmetest.Match{Endpoint: acmetest.Order}
	faults := map[string]func(ca *acmetest.Server) (lift func()){
		"download fails":   func(ca *acmetest.Server) func() { return ca.Status(certificate, 500, nil, acmetest.Problem{}).Lift },
		"download stalls":  func(ca *acmetest.Server) func() { return ca.Stall(certificate).Lift },
		"download garbage": func(ca *acmetest.Server) func() { return ca.Garbage(certificate).Lift },
		"rate limit":       func(ca *acmetest.Server) func() { return ca.Status(certificate, 429, nil, acmetest.Problem{}).Lift },
		"order fails":      func(ca *acmetest.Server) func() { return ca.Drop(orders).Lift },
		"processing":       func(ca *acmetest.Server) func() { return ca.StuckProcessing("*").Lift },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				lift := fault(w.ca)
				w.get("a.example.com")
				time.Sleep(10 * time.Hour)
				lift()
				time.Sleep(2 * time.Hour)
				w.get("a.example.com")
				time.Sleep(time.Minute)
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}

// An order of which nothing can come any more is given up.
func TestUnfinishedOrderIsGivenUp(t *testing.T) {
	t.Parallel()
	t.Run("unknown to the CA", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.m.HandshakeWait = time.Minute
			fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			w.get("a.example.com")
			time.Sleep(time.Minute)
			fault.Lift()
			fault = w.ca.Status(acmetest.Match{Endpoint: acmetest.Order}, http.StatusNotFound, nil, acmetest.Problem{})
			for range 3 { // within an hour
				w.get("a.example.com")
				time.Sleep(15 * time.Minute)
			}
			w.wantOrders("a.example.com", 1)
			time.Sleep(time.Hour)
			w.get("a.example.com")
			time.Sleep(3 * time.Minute)
			fault.Lift()
			time.Sleep(2 * time.Hour)
			w.mustGet("a.example.com")
			w.wantOrders("a.example.com", 2)
		})
	})
	t.Run("stuck for ever", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.ca.StuckProcessing("*")
			for range 17 * 24 {
				w.get("a.example.com")
				time.Sleep(time.Hour)
			}
			if n := w.orders("a.example.com"); n < 2 || n > 3 {
				t.Errorf("%d orders in 17 days, want one for each that expires, after 7", n)
			}
		})
	})
}

// What the CA issued wrongly is not ordered again at the pace of other failures,
// unless an operator wants it.
func TestCertificateThatDoesNotFitIsOrderedOnceADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.WrongName("a.example.com")
		for range 47 {
			w.get("a.example.com")
			time.Sleep(time.Hour)
		}
		if n := w.orders("a.example.com"); n > 2 {
			t.Errorf("%d orders in two days", n)
		}
		before := w.orders("a.example.com")
		fault.Lift()
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		w.wantOrders("a.example.com", before+1)
	})
}
