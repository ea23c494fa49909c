package certmgr_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// Every callback may call the Manager, and none of them blocks another host
// while it hangs: no lock is held across a callback.
func TestCallbacksMayReenter(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := w.m
		use := func() {
			m.Snapshot()
			m.Hosts.Contains("a.example.com")
			m.Hosts.Add("z.example.com")
			m.Hosts.Remove("z.example.com")
			w.get("denied.example.org")
		}
		policyCalls := 0
		m.HostPolicy = func(_ context.Context, host string) error {
			if host == "p.example.com" {
				policyCalls++
				use()
				return nil
			}
			return errors.New("no")
		}
		w.cache.get(func(context.Context, string) error { use(); return nil })
		w.cache.put(func(context.Context, string) error { use(); return nil })
		m.Audit = func(ctx context.Context, e audit.Event) {
			w.events.hook(ctx, e)
			if e.Kind != audit.HostListed && e.Kind != audit.HostUnlisted { // use makes those
				use()
			}
		}
		m.Prompt = func(string) bool { use(); return true }
		w.mustGet("a.example.com")
		w.mustGet("p.example.com")
		if policyCalls != 1 {
			t.Errorf("the policy was called %d times", policyCalls)
		}
	})
}

func TestHungCallbacksOfOneHostHarmNoOther(t *testing.T) {
	stuck := make(map[string]func(w *world) func())
	stuck["cache read"] = func(w *world) func() {
		w.cache.get(func(_ context.Context, key string) error {
			if strings.HasPrefix(key, "a.") {
				w.cache.hang()
			}
			return nil
		})
		return w.cache.release
	}
	stuck["policy"] = func(w *world) func() {
		w.m.Hosts.Remove("a.example.com")
		release := make(chan struct{})
		w.m.HostPolicy = func(_ context.Context, host string) error { <-release; return nil }
		return func() { close(release) }
	}
	stuck["CA"] = func(w *world) func() { return w.ca.Stall(acmetest.Match{Host: "a.example.com"}).Lift }
	stuck["audit"] = func(w *world) func() {
		release := make(chan struct{})
		w.m.Audit = func(_ context.Context, e audit.Event) { <-release }
		return func() { close(release) }
	}
	for name, stick := range stuck {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				release := stick(w)
				var wg sync.WaitGroup
				for range 600 { // more than one host's share of MaxWaiting
					wg.Go(func() { w.get("a.example.com") })
				}
				synctest.Wait()
				start := time.Now()
				w.mustGet("b.example.com")
				w.mustGet("b.example.com")
				w.m.Snapshot()
				if d := time.Since(start); d > time.Second {
					t.Errorf("another host's certificate took %v", d)
				}
				wg.Wait()
				release()
				synctest.Wait()
			})
		})
	}
}

// Hosts that failed before hold at most a quarter of the slots.
func TestFailingHostsHoldAQuarterOfTheSlots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 8
		w.m.HandshakeWait = -1
		var bad []string
		for i := range 20 {
			bad = append(bad, fmt.Sprintf("bad.example%d.com", i))
		}
		w.m.Hosts.Add(bad...)
		for _, h := range bad {
			w.ca.FailValidation(h, "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
			w.get(h)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		for _, h := range bad {
			w.ca.Stall(acmetest.Match{Host: h})
			w.get(h)
		}
		synctest.Wait()
		if snap := w.m.Snapshot(); snap.Issuing != 2 || snap.Queued != 18 {
			t.Errorf("%d issuances of hosts that failed before hold slots and %d wait, want 2 and 18", snap.Issuing, snap.Queued)
		}
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Errorf("a host that did not fail gets no slot: %v", err)
		}
	})
}

type hungKey struct {
	*ecdsa.PrivateKey
	hang atomic.Bool
	ch   chan struct{}
}

func (k *hungKey) Sign(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
	if k.hang.Load() {
		<-k.ch
		return nil, errors.New("KMS is gone")
	}
	return k.PrivateKey.Sign(r, d, o)
}

// An account key that hangs, as one in a KMS may, is reported as a failure all day.
func TestHungAccountKeyIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		k := &hungKey{PrivateKey: key, ch: make(chan struct{})}
		w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client(), Key: k}
		w.m.HandshakeWait = -1
		w.get("b.example.com")
		time.Sleep(time.Second)
		k.hang.Store(true)
		for range 24 * 60 {
			w.get("a.example.com")
			time.Sleep(time.Minute)
		}
		failed := w.events.of(audit.IssuanceFailed)
		_, err := w.get("a.example.com")
		t.Logf("%d issue_failed in 24 h; now: %v", len(failed), err)
		close(k.ch)
		time.Sleep(10 * time.Minute)
		if len(failed) < 10 {
			t.Errorf("only %d failures reported in a day of trouble", len(failed))
		}
	})
}

// A host that waited for its slot while the CA went out of service gives the
// slot back.
func TestSlotIsGivenBackWhenTheCAIsOut(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing, w.m.HandshakeWait = 1, -1
		directory := acmetest.Match{Endpoint: acmetest.Directory}
		undelay := w.ca.Delay(directory, 5*time.Second)
		fault := w.ca.Status(directory, 503, nil, acmetest.Problem{Type: "serverInternal"})
		w.get("a.example.com")
		for _, host := range []string{"b.example.com", "c.example.com"} { // they wait for the slot
			w.wantErr(host, certmgr.ErrInFlight)
		}
		time.Sleep(time.Minute)
		w.wantErr("d.example.com", certmgr.ErrCAUnavailable)
		undelay.Lift()
		fault.Lift()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := w.m.Obtain(ctx, "d.example.com"); err != nil {
			t.Errorf("no slot is free after the outage: %v", err)
		}
	})
}
