package certmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

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
		if len(w.m.engine.report.memory.certificates("a.example.com")) == 0 {
			t.Error("a host that is on the list is not in memory, and so not renewed")
		}
	})
}

// A host that is taken off and comes back while the certificate of an issuance is
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
		if w.m.engine.report.memory.get(host, wanted{}, time.Now()) == nil {
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

// Each issuance that began has one outcome, the local clock's fault included.
func TestEachIssuanceHasOneOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.clock = func() time.Time { return time.Now().Add(365 * day) }
		w.get("a.example.com")
		var got []string
		w.events.of(audit.IssuanceStarted)
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		for _, e := range w.events.events {
			switch e.Kind {
			case audit.IssuanceStarted, audit.CertificateIssued, audit.IssuanceFailed, audit.IssuanceCanceled:
				got = append(got, string(e.Kind))
			}
		}
		if len(got) != 2 {
			t.Errorf("%q, want one outcome", got)
		}
		if v := w.m.Metrics(); v.Issued+v.Failed[audit.StageFinalize] != 1 {
			t.Errorf("%d issued and %v failed", v.Issued, v.Failed)
		}
	})
}

// Those who waited for minutes, and began at different times, make one event when
// all of them are refused at once.
func TestRefusalsOfThoseWhoWaitedAreOneEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.InFlightWait, w.m.HandshakeWait = time.Hour, time.Hour
		w.ca.Delay(acmetest.Match{}, 25*time.Second)
		const visitors = 80 // a second apart
		done := make(chan struct{})
		for range visitors {
			go func() { w.get("a.example.com"); done <- struct{}{} }()
			time.Sleep(time.Second)
		}
		w.m.Hosts.Remove("a.example.com")
		for range visitors {
			<-done
		}
		if refused := w.events.of(audit.HandshakesRefused); len(refused) != 1 {
			t.Errorf("%d events", len(refused))
		}
	})
}

// A visitor who leaves is not the policy's failure.
func TestVisitorWhoLeavesIsNotThePolicysFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = func(ctx context.Context, _ string) error { return flight.Sleep(ctx, time.Second) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/10)
		defer cancel()
		w.handshake(ctx, "www.example.org")
		if e := w.events.of(audit.PolicyFailed); len(e) != 0 {
			t.Error(e)
		}
	})
}

// Visitors of a wildcard's hosts count for it, however many names strangers asked for.
func TestStrangersHideNoVisitorOfAWildcard(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org")
		w.m.init()
		s := w.m.engine.report
		for i := range maxVisits {
			s.visits.asked(fmt.Sprintf("s%d.example.org", i), grant{standing: open}, s.now())
		}
		time.Sleep(40 * day)
		s.visits.asked("www.example.org", grant{standing: open}, s.now())
		for _, h := range w.m.StaleHosts(30 * day) {
			if h.Entry == "*.example.org" {
				t.Errorf("a visitor a moment ago: %+v", h)
			}
		}
	})
}

// What HostPolicy allows adds no entries to what is known of the list's.
func TestOpenPolicyAddsNoEntries(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = AllowAnyHost
		w.mustGet("www.stranger.net")
		time.Sleep(2 * time.Hour)
		w.mustGet("www.stranger.net")
		if _, ok := w.m.engine.report.visits.sightings("*.stranger.net"); ok {
			t.Error("a stranger's name made an entry that nothing bounds")
		}
	})
}

// An entry is watched from when it comes onto the list, also if its host was
// allowed by something else before.
func TestEntryIsWatchedSinceItIsOnTheList(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.org")
		w.mustGet("www.example.org")
		time.Sleep(40 * day)
		w.m.Hosts.Add("www.example.org")
		for _, h := range w.m.StaleHosts(30 * day) {
			if h.Entry == "www.example.org" {
				t.Errorf("just added: %+v", h)
			}
		}
	})
}

// The record of visits is written again when the Cache lost it, or has a damaged
// one, which is told once.
func TestVisitsAreWrittenAgain(t *testing.T) {
	for name, content := range map[string]string{"damaged": `{"hosts":`, "overwritten": `{"hosts":{}}`} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				time.Sleep(2 * time.Hour)
				want, err := w.cache.Cache.Get(t.Context(), visitsKey)
				if err != nil {
					t.Fatal(err)
				}
				w.cache.Cache.Put(t.Context(), visitsKey, []byte(content))
				time.Sleep(4 * time.Hour)
				if got, _ := w.cache.Cache.Get(t.Context(), visitsKey); !bytes.Equal(got, want) {
					t.Errorf("the Cache has %s, want %s", got, want)
				}
				if n := len(w.events.of(audit.CacheEntryRejected)); n > 1 {
					t.Errorf("%d events", n)
				}
			})
		})
	}
}

// A clock that has not been set yet, or was not when the record was made, makes no
// entry stale.
func TestClockThatWasNotSetMakesNothingStale(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var set atomic.Bool
		w.m.clock = func() time.Time {
			if set.Load() {
				return time.Now()
			}
			return time.Unix(3600, 0)
		}
		w.m.Start(t.Context())
		synctest.Wait()
		set.Store(true)
		if stale := w.m.StaleHosts(30 * day); len(stale) != 0 {
			t.Errorf("%+v", stale)
		}
	})
}

// A certificate that the CA has issued is written even if the Manager is closed
// meanwhile.
func TestCertificateIsWrittenWhenCloseComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		s := w.m.engine.operator
		cert := s.memory.current(hostSubject("a.example.com", bundle.ECDSA, s.dir))
		w.m.Close()
		s.store.putCertificate(cert, []byte("the entry"), func() bool { return true })
		if data, err := w.cache.Cache.Get(t.Context(), "a.example.com"); string(data) != "the entry" {
			t.Errorf("lost: %v", err)
		}
	})
}
