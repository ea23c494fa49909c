package certmgr_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// Of three machines that meet 200 new hosts at once, one places each order, and the
// others serve the certificate within a second of its being stored.
func TestFleetOrdersOnce(t *testing.T) {
	t.Parallel()
	atSite(t, func(t *testing.T, s *site) {
		hosts := []string{"warm.example.com"}
		for i := range 200 {
			hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
		}
		for range 3 {
			s.machine(hosts...)
		}
		for _, m := range s.machines { // the account
			s.await(m, hosts[0], 10*time.Second)
		}
		var wg sync.WaitGroup
		for _, m := range s.machines {
			for _, host := range hosts[1:] {
				wg.Go(func() {
					s.await(m, host, time.Minute)
					if late := time.Since(s.store.storedAt(host)); late > 1100*time.Millisecond { // with the visitor's pace
						t.Errorf("%s serves %s %v after it was stored", m.name, host, late)
					}
				})
			}
		}
		wg.Wait()
		if n := len(s.ca.Orders()); n != len(hosts) {
			t.Errorf("%d orders for %d hosts", n, len(hosts))
		}
		for _, host := range hosts {
			var serial string
			for _, m := range s.machines {
				cert, err := m.visit(host)
				if err != nil {
					t.Fatal(err)
				}
				if serial == "" {
					serial = serialOf(cert.Leaf)
				}
				if got := serialOf(cert.Leaf); got != serial {
					t.Errorf("%s serves another certificate of %s", m.name, host)
				}
			}
		}
	})
}

// A machine that another one is ahead of fails fast, with an error, an event and a
// status that name that one, asks the store for nothing on a visitor's behalf, and has
// the certificate within a second.
func TestFleetNamesTheHolder(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		slow := s.ca.SlowValidation(host, 20*time.Second)
		defer slow.Lift()
		first.begin(t, host)
		time.Sleep(time.Second)
		began := time.Now()
		_, err := second.visit(host)
		wantHolder(t, err, "web-1 (pid ")
		if d := time.Since(began); d > 0 {
			t.Errorf("the first visitor waited %v", d)
		}
		synctest.Wait()
		steps := len(second.madeSince(0))
		for range 100 {
			_, err = second.visit(host)
			wantHolder(t, err, "web-1 (pid ")
			if len(err.Error()) > 200 {
				t.Errorf("the error has %d bytes: %v", len(err.Error()), err)
			}
		}
		if more := second.madeSince(steps); len(more) > 0 {
			t.Errorf("visitors have the store asked: %q", more)
		}
		if st := second.Snapshot().Hosts; len(st) != 1 || !st[0].Issuing || st[0].State != certmgr.StateIssuing || st[0].Holder == "" {
			t.Errorf("the status is %+v, and does not name the holder", st)
		}
		if st := first.Snapshot().Hosts; len(st) != 1 || !st[0].Issuing || st[0].Holder != "" {
			t.Errorf("the holder's status is %+v", st)
		}
		s.await(second, host, time.Minute)
		if late := time.Since(s.store.storedAt(host)); late > 1100*time.Millisecond {
			t.Errorf("it is served %v after it was stored", late)
		}
		e := second.wantOne(t, audit.IssuanceElsewhere)
		if e.Host != host || e.RetryAt.IsZero() {
			t.Errorf("the event is %v", e)
		}
		second.wantOne(t, audit.CertificateLoaded)
		if got := second.events.of(audit.IssuanceStarted); len(got) > 0 {
			t.Errorf("it began an attempt: %v", got)
		}
		if valid, all := s.orders(host); valid != 1 || all != 1 {
			t.Errorf("%d orders, %d valid", all, valid)
		}
		synctest.Wait()
		if s.store.isLocked(host + "+issue") {
			t.Error("the lock is kept")
		}
	})
}

// With InFlightWait a visitor waits for the other machine's certificate.
func TestFleetVisitorWaitsForTheHolder(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		second.InFlightWait = 8 * time.Second
		slow := s.ca.SlowValidation(host, 5*time.Second)
		defer slow.Lift()
		first.begin(t, host)
		if _, err := second.visit(host); err != nil {
			t.Errorf("the visitor got %v", err)
		}
	})
}

// A holder whose CA refuses releases the lock, and the verdict counts on every
// machine: no other one asks the CA.
func TestFleetSharesTheVerdict(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		slow := s.ca.SlowValidation(host, 3*time.Second)
		defer slow.Lift()
		s.ca.FailValidation(host, "tls-alpn-01", acmetest.Problem{Status: 403, Type: "unauthorized", Detail: "no"})
		first.begin(t, host)
		time.Sleep(time.Second)
		_, err := second.visit(host)
		wantHolder(t, err, "web-1")
		time.Sleep(15 * time.Second)
		_, err = second.visit(host)
		if err == nil || len(second.events.of(audit.BackoffRestored)) != 1 {
			t.Errorf("the verdict is not known: %v", err)
		}
		if _, all := s.orders(host); all != 1 {
			t.Errorf("%d orders", all)
		}
	})
}

// An operator's Renew orders, although there is a certificate, and the other machines
// have the new one when theirs is due at the latest.
func TestFleetOperatorRenews(t *testing.T) {
	t.Parallel()
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		old, _ := s.await(first, host, 10*time.Second)
		s.await(second, host, 10*time.Second)
		time.Sleep(time.Hour)
		if err := second.Renew(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		renewed, err := second.visit(host)
		if err != nil || serialOf(renewed.Leaf) == serialOf(old.Leaf) {
			t.Errorf("not renewed: %v", err)
		}
		if err := first.Renew(t.Context(), host); err != nil { // although memory has an older one
			t.Fatal(err)
		}
		if _, all := s.orders(host); all != 3 {
			t.Errorf("%d orders, want 3", all)
		}
		time.Sleep(80 * day)
		for _, m := range s.machines {
			s.await(m, host, 0)
		}
		if n := len(s.ca.IssuedFor(host)); n != 4 {
			t.Errorf("%d certificates were issued, want one renewal of the fleet", n)
		}
	})
}
