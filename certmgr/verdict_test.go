package certmgr_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// cutOff returns a transport by which the CA cannot be reached while cut is true.
func (w *world) cutOff(cut *atomic.Bool) http.RoundTripper {
	next := w.ca.Client().Transport
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if cut.Load() {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection timed out")}
		}
		return next.RoundTrip(r)
	})
}

// What the CA told one machine holds for the others, for as long as it does for that
// one.
func TestVerdictHoldsForTheFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, machines := w.fleet()
		defer closeAll(machines)
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "NXDOMAIN"})
		for _, m := range machines {
			m.Backoff = []time.Duration{time.Hour}
		}
		w.serving("d.example.com", machines)
		if err := machines[0].Obtain(t.Context(), "a.example.com"); err == nil {
			t.Fatal("it did not fail")
		}
		time.Sleep(time.Second)
		orders := len(w.ca.Orders())
		for range 25 {
			time.Sleep(2 * time.Minute)
			for i, m := range machines {
				_, err := m.GetCertificate(hello("a.example.com"))
				if !errors.Is(err, certmgr.ErrBackoff) || !strings.Contains(err.Error(), "NXDOMAIN") {
					t.Fatalf("machine %d: %v, want the backoff for what the CA told machine 0", i, err)
				}
			}
		}
		if n := len(w.ca.Orders()); n != orders {
			t.Errorf("%d orders within the backoff of an hour, want %d", n, orders)
		}
	})
}

// A machine that cannot reach the CA in the middle of an attempt, or whose clock is
// wrong, makes no other machine wait, and leaves their records alone.
func TestLocalFailureIsNotTheFleets(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		var cut atomic.Bool
		machines[0].Client.HTTPClient = &http.Client{Transport: w.cutOff(&cut)}
		for i, m := range machines {
			m.Machine = fmt.Sprintf("m%d", i)
		}
		failing := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns", Detail: "NXDOMAIN"})
		if err := machines[1].Obtain(t.Context(), "a.example.com"); err == nil {
			t.Fatal("it did not fail")
		}
		time.Sleep(time.Second)
		verdict, err := store.Get(t.Context(), "a.example.com+failure")
		if err != nil {
			t.Fatal(err)
		}
		// The second order is cut off at its authorization.
		next := machines[0].Client.HTTPClient.Transport
		machines[0].Client.HTTPClient.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/authz") || strings.Contains(r.URL.Path, "/authorization") {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection timed out")}
			}
			return next.RoundTrip(r)
		})
		for _, host := range []string{"a.example.com", "b.example.com"} {
			if err := machines[0].Obtain(t.Context(), host); err == nil {
				t.Fatal("it did not fail")
			}
		}
		time.Sleep(time.Second)
		if now, err := store.Get(t.Context(), "a.example.com+failure"); string(now) != string(verdict) {
			t.Errorf("the record of the CA's verdict is now %s, %v; it was %s", now, err, verdict)
		}
		failing.Lift()
		if _, err := machines[2].GetCertificate(hello("b.example.com")); err != nil {
			t.Errorf("a machine that reaches the CA is refused: %v", err)
		}
	})
}

// An outage of which the CA tells is the fleet's: whoever is told to wait makes the
// others wait, and one of them probes.
func TestOutageThatTheCATellsOfIsTheFleets(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, machines := w.fleet()
		defer closeAll(machines)
		w.serving("d.example.com", machines)
		for _, m := range machines {
			if err := m.Renew(t.Context(), "d.example.com"); err != nil {
				t.Fatal(err)
			}
		}
		maintenance := w.ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, http.Header{"Retry-After": {"3600"}}, acmetest.Problem{})
		if err := machines[0].Obtain(t.Context(), "a.example.com"); err == nil {
			t.Fatal("it did not fail")
		}
		time.Sleep(5 * time.Second)
		w.ca.ForgetRequests()
		for range 10 {
			time.Sleep(5 * time.Minute)
			for i, m := range machines[1:] {
				_, err := m.GetCertificate(hello(fmt.Sprintf("%c.example.com", 'b'+i)))
				if !errors.Is(err, certmgr.ErrCAUnavailable) {
					t.Errorf("machine %d: %v, want that the CA is not used", i+1, err)
				}
			}
		}
		if got := w.ca.ForgetRequests(); len(got) > 0 {
			t.Errorf("%d requests within the hour for which the CA told machine 0 to wait; the first is %v", len(got), got[0])
		}
		maintenance.Lift()
		time.Sleep(20 * time.Minute)
		for i, m := range machines {
			if _, err := m.GetCertificate(hello("c.example.com")); err != nil {
				t.Errorf("machine %d after the maintenance: %v", i, err)
			}
		}
	})
}

// An outage of the network of one machine is its own: it is not recorded for the
// others, and its end ends no outage that the CA told of.
func TestOutageOfOneMachinesNetworkIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		defer closeAll(machines)
		w.serving("d.example.com", machines)
		var cut atomic.Bool
		cut.Store(true)
		machines[0].Client.HTTPClient = &http.Client{Transport: w.cutOff(&cut)}
		m := w.manager()
		m.Cache, m.Client.HTTPClient = store, machines[0].Client.HTTPClient
		defer m.Close()
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
			if err := m.Obtain(t.Context(), host); err == nil {
				t.Fatal("it did not fail")
			}
		}
		if n := len(w.events.of(audit.CAUnavailable)); n == 0 {
			t.Fatal("there was no outage")
		}
		time.Sleep(time.Minute)
		if data, err := store.Get(t.Context(), "acme_ca+failure"); !errors.Is(err, certmgr.ErrCacheMiss) {
			t.Errorf("the outage is recorded for all machines: %s, %v", data, err)
		}
		for i, other := range machines[1:] {
			if err := other.Obtain(t.Context(), string(rune('a'+i))+".example.com"); err != nil {
				t.Errorf("machine %d, which reaches the CA: %v", i+1, err)
			}
		}
	})
}
