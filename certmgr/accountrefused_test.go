package certmgr_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// A refusalOfTheAccount is a way in which a CA refuses an account.
type refusalOfTheAccount struct {
	name  string
	begin func(w *world)
	end   func(w *world) // what an operator or the CA does about it
	says  string
}

// onAccount makes the CA answer requests of the account so.
func onAccount(status int, p acmetest.Problem, endpoints ...acmetest.Endpoint) (begin, end func(w *world)) {
	var lifts []func()
	begin = func(w *world) {
		for _, e := range endpoints {
			lifts = append(lifts, w.ca.Status(acmetest.Match{Endpoint: e}, status, nil, p).Lift)
		}
	}
	end = func(*world) {
		for _, lift := range lifts {
			lift()
		}
	}
	return begin, end
}

func refusalsOfTheAccount() []refusalOfTheAccount {
	on := func(name, says string, status int, p acmetest.Problem, endpoints ...acmetest.Endpoint) refusalOfTheAccount {
		begin, end := onAccount(status, p, endpoints...)
		return refusalOfTheAccount{name, begin, end, says}
	}
	const deleteEntry = `delete the entry "acme_account+key" from the Cache`
	unauthorized := acmetest.Problem{Type: "unauthorized"}
	return []refusalOfTheAccount{
		{
			name:  "deactivated",
			begin: func(w *world) { w.ca.DeactivateAccount(w.account().URL) },
			end:   func(w *world) { w.cache.Cache.Delete(w.t.Context(), accountCacheKey) },
			says:  deleteEntry,
		},
		{
			name:  "changed terms",
			begin: func(w *world) { w.ca.ChangeTerms("https://ca.example/terms-2") },
			end:   func(w *world) { w.ca.AgreeToTerms(w.account().URL) },
			says:  "https://acmetest.invalid/agree",
		},
		on("Boulder", deleteEntry, http.StatusForbidden, acmetest.Problem{Type: "unauthorized", Detail: `Account is not valid, has status "revoked"`},
			acmetest.NewOrder),
		on("unknown", deleteEntry, http.StatusBadRequest, acmetest.Problem{Type: "accountDoesNotExist", Detail: "unable to find account"},
			acmetest.NewOrder),
		on("malformed", deleteEntry, http.StatusBadRequest, acmetest.Problem{Type: "malformed", Detail: "The account is not active."},
			acmetest.NewOrder),
		on("without a word", deleteEntry, http.StatusForbidden, unauthorized, acmetest.NewOrder, acmetest.UpdateAccount),
		on("at the authorization", deleteEntry, http.StatusForbidden, unauthorized, acmetest.Authorization, acmetest.UpdateAccount),
		on("at the challenge", deleteEntry, http.StatusForbidden, unauthorized, acmetest.Challenge, acmetest.UpdateAccount),
		on("at finalize", deleteEntry, http.StatusForbidden, unauthorized, acmetest.Finalize, acmetest.UpdateAccount),
		on("a binding that ended", "Manager.ExternalAccountBinding", http.StatusForbidden, acmetest.Problem{Type: "externalAccountRequired"},
			acmetest.NewOrder),
	}
}

// A CA that refuses the account stops all hosts once, and the error says what to
// do. When that is done, all hosts go on.
func TestRefusedAccountStopsAllHostsOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range refusalsOfTheAccount() {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				hosts := make([]string, 18)
				for i := range hosts {
					hosts[i] = fmt.Sprintf("www.example%d.com", i)
				}
				w.m.Hosts = certmgr.MustAllowlist(append(hosts, "a.example.com")...)
				w.mustGet("a.example.com")
				time.Sleep(time.Hour)
				tt.begin(w)
				before := w.ca.Count(acmetest.NewOrder)
				_, first := w.get(hosts[0])
				for _, err := range append(w.getAll(hosts[1:]), first) {
					if !errors.Is(err, certmgr.ErrNoAccount) || errors.Is(err, certmgr.ErrCAUnavailable) || !strings.Contains(certmgr.InFull(err).Error(), tt.says) {
						t.Fatalf("%v, want an ErrNoAccount that says %q", certmgr.InFull(err), tt.says)
					}
				}
				if err := w.m.Obtain(t.Context(), hosts[1]); !errors.Is(err, certmgr.ErrNoAccount) {
					t.Errorf("Obtain: %v", err)
				}
				if n := w.ca.Count(acmetest.NewOrder) - before; n > 4 {
					t.Errorf("%d orders for %d hosts", n, len(hosts))
				}
				events := w.events.of(audit.AccountUnavailable)
				if len(events) != 1 || !strings.Contains(events[0].Err.Error(), tt.says) || len(w.events.of(audit.CAUnavailable)) != 0 {
					t.Errorf("events: %v, %v", events, w.events.of(audit.CAUnavailable))
				}
				if m := w.m.Metrics(); !m.NoAccount {
					t.Error("the metrics do not say that there is no account")
				}
				tt.end(w)
				time.Sleep(20 * time.Minute)
				for _, err := range w.getAll(hosts[:1]) {
					if err != nil {
						t.Errorf("after it has ended: %v", err)
					}
				}
				for i, err := range w.getAll(hosts) {
					if err != nil {
						t.Errorf("%s after it has ended: %v", hosts[i], err)
					}
				}
				if n := len(w.events.of(audit.AccountAvailable)); n != 1 {
					t.Errorf("%d events of an account that works again, want 1", n)
				}
			})
		})
	}
}

// getAll asks for all hosts at the same time.
func (w *world) getAll(hosts []string) []error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, host := range hosts {
		wg.Go(func() { _, errs[i] = w.get(host) })
	}
	wg.Wait()
	return errs
}

// After a restart the account is looked up before anything is ordered.
func TestRefusedAccountIsFoundAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.DeactivateAccount(w.account().URL)
		w.restart()
		before := w.ca.Count(acmetest.NewOrder)
		for _, host := range []string{"b.example.com", "c.example.com"} {
			if _, err := w.get(host); !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(certmgr.InFull(err).Error(), accountCacheKey) {
				t.Errorf("%s: %v", host, err)
			}
		}
		if n := w.ca.Count(acmetest.NewOrder) - before; n != 0 {
			t.Errorf("%d orders", n)
		}
		w.cache.Cache.Delete(t.Context(), accountCacheKey)
		time.Sleep(2 * time.Minute)
		w.mustGet("b.example.com")
		if n := len(w.ca.Accounts()); n != 2 {
			t.Errorf("%d accounts, want a new one", n)
		}
	})
}

// An account that the CA has deleted is registered again, and no host notices.
func TestForgottenAccountIsRegisteredAgainInTheSameAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		time.Sleep(time.Hour)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusBadRequest, nil, acmetest.Problem{Type: "accountDoesNotExist"})
		w.mustGet("b.example.com")
		synctest.Wait()
		if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
			t.Errorf("an issuance failed: %v", failed)
		}
	})
}

// The CA refuses one name with the same words: no other host is stopped.
func TestUnauthorizedNameIsTheHostsFailure(t *testing.T) {
	t.Parallel()
	for _, detail := range []string{
		"", "the identifier is not valid for this account", "account is disabled for b.example.com", "this account may not have b.example.com",
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.mustGet("a.example.com")
			w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "b.example.com"}, http.StatusForbidden, nil,
				acmetest.Problem{Type: "unauthorized", Detail: detail})
			if _, err := w.get("b.example.com"); err == nil || errors.Is(err, certmgr.ErrNoAccount) {
				t.Errorf("%q: %v", detail, err)
			}
			w.mustGet("c.example.com")
			if n := len(w.ca.Accounts()); n != 1 {
				t.Errorf("%d accounts", n)
			}
		})
	}
}

// A value that no CA could accept is named, and no CA is asked.
func TestWrongSettingIsNamedWithoutARequest(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(m *certmgr.Manager)
		says string
	}{
		"email":         {func(m *certmgr.Manager) { m.Email = "mailto:ops@example.org" }, `Manager.Email "mailto:ops@example.org"`},
		"directory URL": {func(m *certmgr.Manager) { m.Client.DirectoryURL += "\n" }, "Manager.Client.DirectoryURL"},
		"user agent":    {func(m *certmgr.Manager) { m.Client.UserAgent = "a\nb" }, "Manager.Client.UserAgent"},
		"binding": {func(m *certmgr.Manager) {
			m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "kid"}
		}, "Manager.ExternalAccountBinding"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(w.m)
				if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want an ErrNoAccount that says %q", err, tt.says)
				}
				for _, host := range []string{"b.example.com", "c.example.com"} {
					if err := w.wantErr(host, certmgr.ErrNoAccount); !strings.Contains(err.Error(), tt.says) {
						t.Errorf("%v does not say %q", err, tt.says)
					}
				}
				if n := len(w.ca.Requests()); n != 0 {
					t.Errorf("%d requests to the CA", n)
				}
				if n := len(w.events.of(audit.AccountUnavailable)); n != 1 || len(w.events.of(audit.CAUnavailable)) != 0 {
					t.Errorf("%d events of the account: %v", n, w.events)
				}
			})
		})
	}
}

// One event tells of it, however long it lasts.
func TestRefusedAccountIsToldOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.DeactivateAccount(w.account().URL)
		w.visitFor(20*time.Hour, "b.example.com")
		if events := w.events.of(audit.AccountUnavailable); len(events) != 1 {
			t.Errorf("%d events, want 1: %v", len(events), events)
		}
	})
}

// A process that crashes and restarts again and again does not ask for the
// account each time. One that restarts after a repair does.
func TestRefusedAccountOutlivesRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.ca.DeactivateAccount(w.account().URL)
		visit := func() {
			t.Helper()
			w.restart()
			if _, err := w.get("b.example.com"); !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(err.Error(), accountCacheKey) {
				t.Errorf("after a restart: %v", err)
			}
			synctest.Wait()
		}
		visit()
		before := w.ca.Count(acmetest.NewAccount)
		for range 30 {
			time.Sleep(10 * time.Second)
			visit()
		}
		if n := w.ca.Count(acmetest.NewAccount) - before; n > 6 { // a lookup and a registration each
			t.Errorf("%d requests for the account in 30 restarts", n)
		}
		if n := len(w.events.of(audit.CAUnavailable)); n != 0 {
			t.Errorf("%d events that blame the CA", n)
		}
		time.Sleep(2 * time.Hour)
		visit()
		w.cache.Cache.Delete(t.Context(), accountCacheKey)
		w.restart()
		w.mustGet("b.example.com")
		synctest.Wait()
		if _, err := w.cache.Cache.Get(t.Context(), "acme_ca+failure"); err == nil {
			t.Error("the record of the failure is still there")
		}
	})
}
