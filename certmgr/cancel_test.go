package certmgr_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// inFlight begins the issuance of a host that a CA does not bring to an end, and
// returns where the outcome of who waits for it comes.
func (w *world) inFlight(host string, endpoint acmetest.Endpoint) (outcome <-chan error, lift func()) {
	lift = w.ca.Stall(acmetest.Match{Endpoint: endpoint, Host: host}).Lift
	done := make(chan error, 1)
	go func() { _, err := w.get(host); done <- err }()
	time.Sleep(time.Second)
	synctest.Wait()
	return done, lift
}

// wantCanceled checks that who waits for an issuance is let go at once, because its
// host is not allowed.
func wantCanceled(t *testing.T, outcome <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-outcome:
		if !errors.Is(err, certmgr.ErrHostNotAllowed) {
			t.Fatalf("the visitor that waited got %v, want ErrHostNotAllowed", err)
		}
		return err
	default:
		t.Fatal("the issuance goes on")
		return nil
	}
}

// wantNoTrouble checks that nothing is held back by what was canceled.
func (w *world) wantNoTrouble() {
	w.t.Helper()
	snap := w.m.Snapshot()
	failed := slices.ContainsFunc(snap.Hosts, func(h certmgr.HostStatus) bool { return h.Failure != nil })
	if snap.CAFailure != nil || len(snap.RecentFailures) != 0 || failed {
		w.t.Errorf("a canceled issuance counts as a failure: %v, %v", snap.CAFailure, snap.RecentFailures)
	}
	for key, n := range w.m.Metrics().Failed {
		if n != 0 {
			w.t.Errorf("%d failures at %s", n, key)
		}
	}
}

// Remove ends an issuance in flight at every stage: the waiters are told, it is an
// event and no failure, and nothing is left behind.
func TestRemoveEndsAnIssuanceInFlight(t *testing.T) {
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewAccount, acmetest.NewOrder, acmetest.Authorization,
		acmetest.Challenge, acmetest.Finalize, acmetest.Certificate} {
		t.Run(string(endpoint), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				host := "a.example.com"
				match := host
				if endpoint == acmetest.Directory || endpoint == acmetest.NewAccount {
					match = ""
				}
				outcome, lift := w.inFlight(match, endpoint)
				if match == "" {
					done := make(chan error, 1)
					go func() { _, err := w.get(host); done <- err }()
					time.Sleep(time.Second)
					outcome = done
				}
				w.m.Hosts.Because("moved away").Remove(host)
				err := wantCanceled(t, outcome)
				if !strings.Contains(err.Error(), "moved away") || !strings.Contains(err.Error(), host) {
					t.Errorf("%q does not say why", err)
				}
				events := w.events.of(audit.IssuanceCanceled)
				if len(events) != 1 {
					t.Fatalf("events: %v", events)
				}
				e := events[0]
				if e.Host != host || !strings.Contains(e.Reason, "taken off the list") || !strings.Contains(e.Reason, "moved away") ||
					e.Decision != audit.Refused || e.Rule != "Hosts" || e.Attempt == "" || e.Stage == "" || e.IsFailure() {
					t.Errorf("event: %v", e)
				}
				w.wantNoTrouble()
				lift()
				time.Sleep(time.Minute)
				if _, err := w.cache.Get(t.Context(), host+"+token"); !errors.Is(err, certmgr.ErrCacheMiss) {
					t.Errorf("the answer to the challenge was left in the cache: %v", err)
				}
				if snap := w.m.Snapshot(); len(snap.Hosts) != 0 || snap.Issuing != 0 {
					t.Errorf("left behind: %+v", snap.Hosts)
				}
				w.wantErr(host, certmgr.ErrHostNotAllowed)
			})
		})
	}
}

// A wildcard and Replace remove hosts too; issuances for allowed hosts
// continue.
func TestEveryRemovalEndsIssuances(t *testing.T) {
	removals := map[string]func(*certmgr.Allowlist){
		"wildcard": func(a *certmgr.Allowlist) { a.Remove("*.example.org") },
		"replace":  func(a *certmgr.Allowlist) { a.Replace("kept.example.org", "a.example.com") },
		"all":      func(a *certmgr.Allowlist) { a.Remove("www.example.org", "*.example.org", "nobody.example.com") },
	}
	for name, remove := range removals {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.HandshakeWait = time.Hour
				w.m.Hosts.Add("*.example.org", "kept.example.org")
				gone, _ := w.inFlight("www.example.org", acmetest.NewOrder)
				kept, lift := w.inFlight("kept.example.org", acmetest.NewOrder)
				remove(w.m.Hosts)
				wantCanceled(t, gone)
				lift()
				if err := <-kept; err != nil {
					t.Errorf("a host that is on the list by its name: %v", err)
				}
				if e := w.events.of(audit.IssuanceCanceled); len(e) != 1 {
					t.Errorf("events: %v", e)
				}
			})
		})
	}
}

// A host that another entry still allows keeps its issuance.
func TestRemovalOfOneOfTwoEntriesEndsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = time.Minute
		w.m.Hosts.Add("*.example.com")
		outcome, lift := w.inFlight("a.example.com", acmetest.NewOrder)
		w.m.Hosts.Remove("a.example.com")
		synctest.Wait()
		lift()
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	})
}

// An issuance that waits for a slot ends too, without having begun.
func TestRemoveEndsAQueuedIssuance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		w.m.HandshakeWait = time.Minute
		first, lift := w.inFlight("a.example.com", acmetest.NewOrder)
		queued := make(chan error, 1)
		go func() { queued <- w.m.Obtain(t.Context(), "b.example.com") }()
		synctest.Wait()
		if snap := w.m.Snapshot(); snap.Queued != 1 {
			t.Fatalf("%d wait for a slot", snap.Queued)
		}
		w.m.Hosts.Remove("b.example.com")
		wantCanceled(t, queued)
		if snap := w.m.Snapshot(); snap.Queued != 0 {
			t.Errorf("%d wait for a slot", snap.Queued)
		}
		if e := w.events.of(audit.IssuanceCanceled); len(e) != 1 || e[0].Stage != audit.StageQueue || e[0].Host != "b.example.com" {
			t.Errorf("events: %v", e)
		}
		lift()
		if err := <-first; err != nil {
			t.Error(err)
		}
		w.wantNoTrouble()
		w.wantOrders("b.example.com", 0)
	})
}

// The user's code may ignore the end of its context: no handshake waits for it,
// but the host's next issuance does.
func TestCanceledIssuanceThatHangsKeepsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = time.Minute
		key := &slowSigner{Signer: testKeys()[bundle.ECDSA], release: make(chan struct{})}
		w.m.Client.Key = key
		w.mustGet("b.example.com") // there is an account
		key.slow.Store(true)
		done := make(chan error, 1)
		go func() { _, err := w.get("a.example.com"); done <- err }()
		time.Sleep(time.Second)
		w.m.Hosts.Remove("a.example.com")
		w.m.Hosts.Add("a.example.com")
		fresh := make(chan error, 1)
		go func() { fresh <- w.m.Obtain(t.Context(), "a.example.com") }()
		time.Sleep(attemptGrace)
		wantCanceled(t, done)
		w.wantErr("a.example.com", certmgr.ErrInFlight) // the new one is on the books
		w.wantOrders("a.example.com", 0)
		key.slow.Store(false)
		close(key.release)
		if err := <-fresh; err != nil {
			t.Error(err)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// slowSigner is a key that ignores the end of any context.
type slowSigner struct {
	crypto.Signer
	slow    atomic.Bool
	release chan struct{}
}

func (s *slowSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.slow.Load() {
		<-s.release
	}
	return s.Signer.Sign(r, digest, opts)
}

// With a HostPolicy the policy decides about hosts that leave the list.
func TestPolicyDecidesAboutRemovedHosts(t *testing.T) {
	no := errors.New("not a customer")
	cases := map[string]struct {
		policy   certmgr.HostPolicy
		canceled bool
	}{
		"yes":       {func(context.Context, string) error { return nil }, false},
		"no":        {func(context.Context, string) error { return no }, true},
		"undecided": {func(context.Context, string) error { return fmt.Errorf("%w: database", certmgr.ErrPolicy) }, false},
		"hangs":     {func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }, false},
		"panics":    {func(context.Context, string) error { panic("boom") }, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var asked atomic.Int32
				w.m.HandshakeWait = time.Minute
				w.m.HostPolicy = func(ctx context.Context, host string) error {
					asked.Add(1)
					return test.policy(ctx, host)
				}
				w.mustGet("b.example.com")
				outcome, lift := w.inFlight("a.example.com", acmetest.NewOrder)
				other, liftOther := w.inFlight("d.example.com", acmetest.NewOrder)
				defer func() {
					liftOther()
					if err := <-other; err != nil {
						t.Errorf("another host: %v", err)
					}
				}()
				start := time.Now()
				w.m.Hosts.Because("moved").Remove("a.example.com", "b.example.com", "c.example.com")
				if time.Since(start) != 0 {
					t.Error("Remove waited for the policy")
				}
				time.Sleep(policyTimeout)
				synctest.Wait()
				if n := asked.Load(); n != 2 { // of c there is nothing
					t.Errorf("the policy was asked %d times, want once for each host in memory or in flight", n)
				}
				held := certmgr.InMemory(w.m, "b.example.com") > 0
				if held == test.canceled {
					t.Errorf("b is in memory: %v", held)
				}
				if test.canceled {
					if err := wantCanceled(t, outcome); !errors.Is(err, no) {
						t.Errorf("%v does not wrap the policy's refusal", err)
					}
					e := w.events.of(audit.IssuanceCanceled)
					if len(e) != 1 || e[0].Rule != "HostPolicy" || !errors.Is(e[0].Err, no) || len(w.events.of(audit.HostDropped)) != 1 {
						t.Errorf("events: %v", w.events)
					}
					return
				}
				lift()
				if err := <-outcome; err != nil {
					t.Errorf("the issuance that was left: %v", err)
				}
				if len(w.events.of(audit.IssuanceCanceled))+len(w.events.of(audit.HostDropped)) != 0 {
					t.Errorf("events: %v", w.events)
				}
			})
		})
	}
}

// Renewal ends as well, and nothing is left of the host.
func TestRemoveEndsARenewalInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		renewed := make(chan error, 1)
		go func() { renewed <- w.m.Renew(t.Context(), "a.example.com") }()
		time.Sleep(time.Second)
		w.m.Hosts.Remove("a.example.com")
		wantCanceled(t, renewed)
		time.Sleep(100 * 24 * time.Hour)
		w.wantOrders("a.example.com", 2) // one of them had no answer
		if snap := w.m.Snapshot(); len(snap.Hosts) != 0 {
			t.Errorf("left behind: %+v", snap.Hosts)
		}
	})
}

// What Close cuts short is an event too, and no failure.
func TestCloseSaysWhatItCutShort(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.MaxIssuing = 1
		w.inFlight("a.example.com", acmetest.NewOrder)
		go w.get("b.example.com")
		synctest.Wait()
		w.m.Close()
		var hosts []string
		for _, e := range w.events.of(audit.IssuanceCanceled) {
			hosts = append(hosts, e.Host+" "+e.Rule)
		}
		if !slices.Equal(hosts, []string{"a.example.com Close"}) {
			t.Errorf("canceled: %q; b had not begun", hosts)
		}
		w.wantNoTrouble()
	})
}

// However long the operator's reason is, those who wait for a host that is taken off
// the list get it in one line of bounded length.
func TestLongReasonIsCutShort(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		outcome, _ := w.inFlight("a.example.com", acmetest.NewOrder)
		w.m.Hosts.Because(strings.Repeat("r", 2000)).Remove("a.example.com")
		if line := wantCanceled(t, outcome).Error(); !strings.Contains(line, "rrr") || len(line) > text.MaxError {
			t.Errorf("the error of a host that was removed: %q", line)
		}
	})
}
