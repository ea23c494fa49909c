package certmgr_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
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

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// account returns the only account of the CA.
func (w *world) account() acmetest.Account {
	w.t.Helper()
	synctest.Wait()
	accounts := w.ca.Accounts()
	if len(accounts) != 1 {
		w.t.Fatalf("%d accounts, want 1", len(accounts))
	}
	return accounts[0]
}

// Issuances that are in flight when the key changes start again with the new
// one, at any stage; no failure is reported.
func TestIssuanceDuringAKeyChangeSucceeds(t *testing.T) {
	t.Parallel()
	for _, stage := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Authorization, acmetest.Challenge, acmetest.Finalize, acmetest.Order, acmetest.Certificate} {
		t.Run(string(stage), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("b.example.com")
				fault := w.ca.Stall(acmetest.Match{Endpoint: stage})
				var wg sync.WaitGroup
				wg.Go(func() { w.mustGet("a.example.com") })
				time.Sleep(time.Second)
				w.mustRoll()
				fault.Lift()
				wg.Wait()
				if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
					t.Errorf("the issuance failed: %v", failed)
				}
			})
		})
	}
}

// A challenge answer holds the account's key: one that was put in place before the
// change fails after it.
func TestChallengeThatFailsForAKeyChangeIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		fault := w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong key authorization"})
		verdict, known := make(chan struct{}), make(chan struct{})
		var looks atomic.Int32
		base := w.ca.Client().Transport
		w.m.Client.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := base.RoundTrip(r)
			if strings.HasPrefix(r.URL.Path, "/authorization/") && looks.Add(1) == 2 { // after the challenge
				close(verdict)
				<-known
			}
			return res, err
		})}
		var wg sync.WaitGroup
		wg.Go(func() { w.mustGet("a.example.com") })
		<-verdict
		w.mustRoll()
		fault.Lift()
		close(known)
		wg.Wait()
		if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
			t.Errorf("the issuance failed: %v", failed)
		}
	})
}

// A machine whose key another one has replaced finds the new one in the Cache, also
// where the other one has not got as far as to put it in its place.
func TestAnotherMachineChangesTheKey(t *testing.T) {
	for _, unfinished := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("a.example.com")
			old := w.account()
			other := w.manager()
			other.Audit = nil
			if unfinished {
				quietLog(t)
				w.cache.put(func(_ context.Context, key string) error {
					if key == accountCacheKey {
						return errDisk
					}
					return nil
				})
			}
			if err := other.RollAccountKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			other.Close()
			w.cache.put(nil)
			w.mustGet("b.example.com")
			if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
				t.Errorf("an issuance failed: %v", failed)
			}
			if err := w.m.Revoke(t.Context(), "b.example.com", acme.CRLReasonSuperseded); err != nil {
				t.Error(err)
			}
			if now := w.account(); now.URL != old.URL || now.Thumbprint == old.Thumbprint {
				t.Errorf("the account was %v and is %v", old, now)
			}
			w.wantSettled()
		})
	}
}

func TestRevocationWithAKeyThatAnotherMachineReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		other := w.manager()
		other.Audit = nil
		defer other.Close()
		if err := other.RollAccountKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.mustRevoke("a.example.com", acme.CRLReasonCessationOfOperation)
		w.wantRevoked(old)
		if e := w.events.of(audit.CertificateRevoked)[0]; !strings.Contains(e.Reason, "the account") {
			t.Errorf("the certificate's key signed: %v", e)
		}
	})
}

// A refusal that has other reasons costs the account nothing.
func TestRefusedOrderKeepsTheAccount(t *testing.T) {
	for _, problem := range []string{"malformed", "unauthorized"} {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("a.example.com")
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "b.example.com"}, http.StatusForbidden, nil, acmetest.Problem{Type: problem})
			w.get("b.example.com")
			w.wantOrders("b.example.com", 1)
			if n := w.ca.Count(acmetest.NewAccount); n != 1 {
				t.Errorf("%d requests for the account, want 1", n)
			}
			w.cache.Cache.Delete(t.Context(), accountCacheKey)
			time.Sleep(time.Minute + 10*time.Second)
			w.get("b.example.com")
			w.mustGet("c.example.com")
			w.account() // a cleared cache is no reason for a new one
		})
	}
}

func TestChangedEmailIsToldToTheCA(t *testing.T) {
	t.Parallel()
	const old, now = "old@example.com", "ops@example.com"
	tests := []struct {
		name    string
		email   string
		spoil   func(w *world) (lift func())
		contact string
		updates int
		failed  bool
	}{
		{name: "changed", email: now, contact: now, updates: 1},
		{name: "the same", email: old, contact: old},
		{name: "another case", email: "Old@Example.com", contact: old},
		{name: "not set any more", email: "", contact: old},
		{name: "refused", email: now, contact: old, updates: 1, failed: true, spoil: func(w *world) func() {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.UpdateAccount}, http.StatusForbidden, nil, acmetest.Problem{Type: "unauthorized"}).Lift
		}},
		{name: "not an address", email: "ops", contact: old, failed: true},
		{name: "no answer", email: now, contact: old, updates: 2, failed: true, spoil: func(w *world) func() {
			return w.ca.Stall(acmetest.Match{Endpoint: acmetest.UpdateAccount}).Lift
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Email = old
				w.mustGet("a.example.com")
				w.restart()
				w.m.Email = tt.email
				if tt.spoil != nil {
					defer tt.spoil(w)()
				}
				start := time.Now()
				w.mustGet("b.example.com")
				if d := time.Since(start); d > time.Second {
					t.Errorf("the issuance took %v", d)
				}
				time.Sleep(time.Hour)
				if got := w.account().Contact; !slices.Equal(got, []string{"mailto:" + tt.contact}) {
					t.Errorf("the contact is %q, want %q", got, tt.contact)
				}
				if n := w.ca.Count(acmetest.UpdateAccount); n > tt.updates || n == 0 && tt.updates > 0 {
					t.Errorf("%d updates, want %d", n, tt.updates)
				}
				changed, failed := w.events.of(audit.AccountContactChanged), w.events.of(audit.AccountContactFailed)
				if (len(failed) == 1) != tt.failed || (len(changed) == 1) != (tt.contact == now) {
					t.Errorf("events: %v, %v", changed, failed)
				}
				// Not again in this process.
				requests := w.ca.Count(acmetest.UpdateAccount)
				if err := certmgr.ForgetAccount(t.Context(), w.m); err != nil {
					t.Fatal(err)
				}
				w.mustGet("c.example.com")
				synctest.Wait()
				if w.ca.Count(acmetest.UpdateAccount) != requests {
					t.Error("the account was updated twice")
				}
			})
		})
	}
}

func TestAccountIsRegisteredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const terms = "https://ca.example/terms"
		w.ca.ChangeTerms(terms)
		var asked atomic.Int32
		w.m.Prompt = func(url string) bool { asked.Add(1); return url == terms }
		w.m.Email = "ops@example.com"
		errs := make(chan error)
		hosts := []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}
		for _, h := range hosts {
			go func() { _, err := w.get(h); errs <- err }()
		}
		for range hosts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := w.ca.Count(acmetest.NewAccount); n != 1 || asked.Load() != 1 {
			t.Errorf("%d registrations, and Prompt was called %d times, want 1 of each", n, asked.Load())
		}
		if acc := w.ca.Accounts(); len(acc) != 1 || len(acc[0].Contact) != 1 || acc[0].Contact[0] != "mailto:ops@example.com" {
			t.Errorf("accounts: %+v", acc)
		}
		w.restart() // the same key, an account that exists
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		if acc := w.ca.Accounts(); len(acc) != 1 {
			t.Errorf("%d accounts after a restart, want 1", len(acc))
		}
	})
}

func TestTermsThatAreNotAccepted(t *testing.T) {
	for name, prompt := range map[string]func(string) bool{"nil": nil, "no": func(string) bool { return false }, "panic": func(string) bool { panic("boom") }} {
		inBubble(t, func(t *testing.T, w *world) {
			const terms = "https://ca.example/terms"
			w.ca.ChangeTerms(terms)
			w.m.Prompt = prompt
			_, err := w.get("a.example.com")
			issue, ok := errors.AsType[*certmgr.IssuanceError](err)
			if !ok || issue.Stage != audit.StageAccount || name != "panic" && (!strings.Contains(issue.Error(), terms) || !strings.Contains(issue.Error(), "Prompt")) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}
