package certmgr_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

// A machine that revokes a certificate while another one renews it leaves that one's
// order alone, whose certificate would be lost otherwise if it were killed, and never
// deletes the new certificate, however slow the store is.
func TestFleetRevokesWhileAnotherMachineRenews(t *testing.T) {
	for _, until := range []time.Duration{5 * time.Second, time.Second} { // the new certificate comes
		t.Run(until.String(), func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				const host = "a.example.com"
				first, second := s.machine(host), s.machine(host)
				for _, m := range s.machines {
					s.await(m, host, 10*time.Second)
				}
				time.Sleep(time.Hour)
				first.setFault(func(_ context.Context, step string) error {
					if step == "delete "+host {
						time.Sleep(2 * time.Second)
					}
					return nil
				})
				second.setFault(func(_ context.Context, step string) error {
					if strings.HasPrefix(step, "CA /certificate/") {
						time.Sleep(until)
					}
					return nil
				})
				renewed := make(chan error, 1)
				go func() { renewed <- second.Renew(context.Background(), host) }()
				time.Sleep(500 * time.Millisecond)
				go first.Revoke(context.Background(), host, acme.CRLReasonSuperseded)
				time.Sleep(until*4/5 - 500*time.Millisecond)
				if _, err := s.store.Get(t.Context(), host+"+order"); err != nil {
					t.Errorf("the order in flight: %v", err)
				}
				if err := <-renewed; err != nil {
					t.Fatal(err)
				}
				want, _ := s.await(second, host, 0)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				data, err := s.store.Get(t.Context(), host)
				if err != nil {
					t.Fatalf("the new certificate: %v", err)
				}
				if got := serialOf(storedLeaf(t, data)); got != serialOf(want.Leaf) {
					t.Errorf("the store has certificate %s, want %s", got, serialOf(want.Leaf))
				}
				if valid, all := s.orders(host); valid != 2 || all != 2 {
					t.Errorf("%d of %d orders are valid, want 2", valid, all)
				}
			})
		})
	}
}
