package certmgr_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// Removed and added again while the old issuance is still ending: the new one
// follows it, and has the host to itself.
func TestHostThatComesBackGetsAFreshIssuance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.deletes().delete(func(ctx context.Context, _ string) error { // of the clean-up
			return flight.Sleep(ctx, 4500*time.Millisecond)
		})
		old, lift := w.inFlight("a.example.com", acmetest.Challenge)
		w.m.Hosts.Remove("a.example.com")
		w.m.Hosts.Add("a.example.com")
		lift()
		start := time.Now()
		fresh := make(chan error, 1)
		go func() { fresh <- w.m.Obtain(t.Context(), "a.example.com") }()
		wantCanceled(t, old)
		time.Sleep(time.Second)
		w.wantErr("a.example.com", certmgr.ErrInFlight)
		w.wantOrders("a.example.com", 1)
		if err := <-fresh; err != nil {
			t.Fatal(err)
		}
		if time.Since(start) < 4*time.Second {
			t.Error("the new issuance did not wait for the end of the old one")
		}
		w.mustGet("a.example.com")
		w.wantOrders("a.example.com", 2)
		if e := w.events.of(audit.IssuanceCanceled); len(e) != 1 {
			t.Errorf("events: %v", e)
		}
	})
}

// A host that comes back onto the list while HostPolicy is asked about it is
// neither dropped nor refused.
func TestHostThatComesBackWhileThePolicyIsAskedStays(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = func(ctx context.Context, _ string) error {
			flight.Sleep(ctx, time.Second)
			return errors.New("not a customer")
		}
		w.mustGet("a.example.com")
		w.m.HandshakeWait = time.Minute
		outcome, lift := w.inFlight("b.example.com", acmetest.NewOrder)
		w.m.Hosts.Remove("a.example.com", "b.example.com")
		synctest.Wait()
		w.m.Hosts.Add("a.example.com", "b.example.com")
		time.Sleep(2 * time.Second)
		lift()
		if err := <-outcome; err != nil {
			t.Errorf("the issuance of a host that is on the list: %v", err)
		}
		if dropped := w.events.of(audit.HostDropped); len(dropped) != 0 {
			t.Errorf("dropped although on the list: %v", dropped)
		}
		if certmgr.InMemory(w.m, "a.example.com") == 0 {
			t.Error("a host that is on the list is not in memory, and so not renewed")
		}
	})
}

// A host that is taken off and comes back while the certificate of its issuance is
// written keeps what was loaded since.
func TestHostThatComesBackAtTheEndOfItsIssuanceIsRenewed(t *testing.T) {
	// Where the removal is followed up before the host is back, it is dropped rightly.
	const tries = 100
	for range tries {
		if comesBackAtTheEndOfItsIssuance(t) {
			return
		}
	}
	t.Errorf("the host was not back in time in %d tries", tries)
}

// comesBackAtTheEndOfItsIssuance reports whether the host was back before anybody
// looked.
func comesBackAtTheEndOfItsIssuance(t *testing.T) (inTime bool) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		host := "a.example.com"
		w.cache.put(func(ctx context.Context, key string) error {
			if key == host {
				flight.Sleep(ctx, time.Second/2)
			}
			return nil
		})
		done := make(chan error, 1)
		go func() { _, err := w.get(host); done <- err }()
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if certmgr.InMemory(w.m, host) == 0 {
			t.Fatal("not at the store stage")
		}
		w.m.Hosts.Remove(host)
		w.m.Hosts.Add(host)
		synctest.Wait()
		w.get(host)
		<-done
		synctest.Wait()
		listed, dropped := w.events.of(audit.HostListed), w.events.of(audit.HostDropped)
		if len(dropped) == 1 && dropped[0].Seq < listed[len(listed)-1].Seq {
			return
		}
		inTime = true
		if len(dropped) != 0 {
			t.Errorf("dropped although on the list: %v", dropped)
		}
		time.Sleep(89 * day)
		w.wantOrders(host, 2)
	})
	return inTime
}

// A certificate that was being read from the Cache when its host was taken off the
// list is not kept.
func TestRemovedHostIsNotLoaded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		host := "a.example.com"
		w.mustGet(host)
		w.restart()
		w.cache.get(func(ctx context.Context, key string) error {
			if key == host {
				return flight.Sleep(ctx, time.Second)
			}
			return nil
		})
		done := make(chan error, 1)
		go func() { _, err := w.get(host); done <- err }()
		synctest.Wait()
		w.m.Hosts.Remove(host)
		<-done
		synctest.Wait()
		if hosts := w.m.Snapshot().Hosts; len(hosts) != 0 {
			t.Errorf("in memory and to be renewed, although not on the list: %+v", hosts)
		}
	})
}

func TestRemoveForgetsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org")
		for _, host := range []string{"a.example.com", "www.example.org"} {
			w.ca.FailValidation(host, "", acmetest.Problem{Type: "dns"})
			w.get(host)
		}
		w.m.Hosts.Remove("a.example.com", "*.example.org")
		synctest.Wait()
		if snap := w.m.Snapshot(); len(snap.Hosts) != 0 {
			t.Errorf("left behind: %+v", snap.Hosts)
		}
	})
}
