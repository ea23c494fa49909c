package account

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// Whatever callers do, and whatever happens to the key meanwhile: there is one
// account, and each request is signed by a key that the CA knows.
func TestUsesAndChangesAtTheSameTimeKeepOneAccount(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		set := s.setup()
		set.email = "ops@example.com"
		s.restart(set)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 4 {
					if err := s.m.use(t.Context()); err != nil {
						t.Errorf("the account is used: %v", err)
					}
				}
			})
		}
		for range 3 {
			wg.Go(func() {
				if err := s.m.ChangeKey(t.Context()); err != nil {
					t.Errorf("ChangeKey: %v", err)
				}
			})
			wg.Go(func() {
				if acc, err := s.m.Get(t.Context()); err == nil {
					s.m.Forget(acc)
				}
			})
		}
		wg.Wait()
		s.mustUse()
		s.wantSettled()
	})
}

func TestRegistrationOutlivesItsCaller(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		fault := s.ca.Stall(acmetest.Match{Endpoint: acmetest.NewAccount})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.m.Get(ctx)
		if left, ok := err.(*flight.Left); !ok || !errors.Is(left, context.DeadlineExceeded) {
			t.Errorf("Get: %v, want that its caller left", err)
		}
		fault.Lift()
		s.account()
		s.mustUse()
		if n := s.ca.Count(acmetest.NewAccount); n != 1 {
			t.Errorf("%d requests for the account, want 1", n)
		}
	})
}

// What the CA is not to blame for is told from what it refuses.
func TestWhoseFaultAMissingAccountIs(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(s *site, set *setup)
		ours  bool
		says  string
	}{
		{"nobody accepts the terms", func(_ *site, set *setup) { set.prompt = nil }, true, "set Manager.Prompt"},
		{"the terms are refused", func(_ *site, set *setup) { set.prompt = func(string) bool { return false } }, true, "Manager.Prompt did not accept"},
		{"a prompt that panics", func(_ *site, set *setup) { set.prompt = func(string) bool { panic("no terminal") } }, true, "no terminal"},
		{"a store that cannot be read", func(s *site, _ *setup) { s.store.hook(failing(currentEntry), nil) }, true, errDisk.Error()},
		{"a store that cannot be written", func(s *site, _ *setup) { s.store.hook(nil, failing(currentEntry)) }, true, errDisk.Error()},
		{"a damaged key", func(s *site, _ *setup) { s.store.set(currentEntry, []byte("garbage")) }, true, "is damaged"},
		{"a CA that refuses accounts", func(s *site, _ *setup) {
			s.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusForbidden, nil, acmetest.Problem{Type: "unauthorized"})
		}, true, "registering an account"},
		{"a CA that cannot register accounts", func(s *site, _ *setup) {
			s.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusInternalServerError, nil, acmetest.Problem{Type: "serverInternal"})
		}, false, "registering an account"},
		{"a limit of the CA", func(s *site, _ *setup) {
			s.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusTooManyRequests, nil,
				acmetest.Problem{Type: "rateLimited", Detail: "too many new accounts: the account is disabled"})
		}, false, "registering an account"},
		{"a page of a proxy", func(s *site, _ *setup) {
			s.ca.Respond(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusForbidden, nil, "<html>This account has been suspended</html>")
		}, false, "registering an account"},
		{"a CA without a directory", func(s *site, _ *setup) { s.ca.Garbage(acmetest.Match{Endpoint: acmetest.Directory}) }, false, "directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				set := s.setup()
				s.ca.ChangeTerms("https://ca.example/terms")
				tt.spoil(s, &set)
				s.restart(set)
				_, err := s.m.Get(t.Context())
				if err == nil || !strings.Contains(err.Error(), tt.says) || IsUnavailable(err) != tt.ours {
					t.Errorf("Get: %v (our fault: %v), want our fault: %v, and that it says %q", err, IsUnavailable(err), tt.ours, tt.says)
				}
				if n := len(s.ca.Accounts()); n != 0 {
					t.Errorf("%d accounts", n)
				}
			})
		})
	}
}

// A key of the user's is not kept in the store, and not changed.
func TestKeyOfTheUserIsTheirs(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		set := s.setup()
		set.key = newKey(t)
		s.store.hook(failing(currentEntry, legacyEntry, nextEntry), failing(currentEntry, nextEntry))
		s.restart(set)
		s.mustUse()
		if err := s.m.ChangeKey(t.Context()); err == nil || !strings.Contains(err.Error(), "Manager.Client") {
			t.Errorf("ChangeKey: %v", err)
		}
		if got := s.account().Thumbprint; got != thumbprint(t, set.key) || s.ca.Count(acmetest.KeyChange) != 0 {
			t.Errorf("the account has the key %s, want the user's", got)
		}
	})
}

func TestKeyOfAutocertsEarlyVersionsIsUsed(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		key := newKey(t)
		s.store.set(legacyEntry, encoded(t, key))
		s.mustUse()
		if got := s.account().Thumbprint; got != thumbprint(t, key) {
			t.Errorf("the account has the key %s, want that of the store", got)
		}
		s.mustChange()
		s.wantSettled()
	})
}

// The CA says that the account is gone: it is registered again, with the same
// key.
func TestAccountThatIsGoneIsRegisteredAgain(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		time.Sleep(time.Hour) // a new account may not be known everywhere
		s.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusBadRequest, nil, acmetest.Problem{Type: "accountDoesNotExist"})
		acc, err := s.m.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.mustUse()
		s.wantSettled()
		s.m.Forget(acc) // by one who comes late, and drops no other account
		s.mustUse()
		if n := len(s.events.of(audit.AccountReady)); n != 2 {
			t.Errorf("%d events of an account that is ready, want 2", n)
		}
	})
}

// The account was looked up again, with the same key, after the request was
// signed, and the CA's answer to the change is still under way when it refuses
// the request.
func TestRequestIsOutdatedBeforeTheChangeIsKnown(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		base := s.ca.Client().Transport
		made, arrive := make(chan struct{}), make(chan struct{})
		s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := base.RoundTrip(r)
			if r.URL.Path == "/key-change" {
				close(made)
				<-arrive
			}
			return res, err
		}))
		s.mustUse()
		acc, err := s.m.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.m.Forget(acc)
		s.mustUse()
		var wg sync.WaitGroup
		wg.Go(s.mustChange)
		<-made
		wg.Go(func() {
			trace := new(acmeclient.Trace)
			_, err := s.m.client(acc).AuthorizeOrder(acmeclient.WithTrace(t.Context(), trace), acme.DomainIDs("a.example.com"))
			if err == nil || !s.m.Outdated(t.Context(), acc, trace, err) {
				t.Errorf("the request is not outdated: %v", err)
			}
		})
		synctest.Wait()
		close(arrive)
		wg.Wait()
	})
}

// A refusal that has other reasons than the key costs the account nothing.
func TestRefusalForOtherReasonsKeepsTheAccount(t *testing.T) {
	for _, kind := range []string{"malformed", "unauthorized", "rateLimited", "rejectedIdentifier"} {
		atSite(t, func(t *testing.T, s *site) {
			s.mustUse()
			s.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusForbidden, nil, acmetest.Problem{Type: kind})
			orders := s.ca.Count(acmetest.NewOrder)
			if err := s.m.use(t.Context()); err == nil {
				t.Error("the refusal is not reported")
			}
			if n, m := s.ca.Count(acmetest.NewAccount), s.ca.Count(acmetest.NewOrder)-orders; n != 1 || m != 1 {
				t.Errorf("%s: %d requests for the account and %d for the order, want 1 each", kind, n, m)
			}
		})
	}
}

// Close does not cut short what saves a key that the CA knows by now.
func TestKeyIsSavedDuringClose(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		s.store.hook(nil, func(name string) error {
			if name == currentEntry {
				s.m.tasks.Close()
			}
			return nil
		})
		s.m.ChangeKey(t.Context())
		if s.account(); s.ca.Count(acmetest.KeyChange) == 0 {
			t.Fatal("the key was not changed")
		}
		s.wantSettled()
	})
}

func TestKeyThatIsGoneFromTheStoreIsWrittenAgain(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		acc, err := s.m.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.store.clear(currentEntry)
		s.m.Forget(acc)
		s.mustUse()
		s.wantSettled()
	})
}

func TestTurnIsHeldByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurn()
		release, err := turn.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(flight.ErrClosed)
		if _, err := turn.take(ctx); !errors.Is(err, flight.ErrClosed) {
			t.Errorf("take: %v, want the cause of the end of the context", err)
		}
		next := make(chan func())
		go func() {
			release, err := turn.take(t.Context())
			if err != nil {
				t.Error(err)
			}
			next <- release
		}()
		synctest.Wait()
		select {
		case <-next:
			t.Fatal("two have the turn")
		default:
		}
		release()
		(<-next)()
		if release, err = turn.take(ctx); err != nil {
			t.Errorf("take: %v, but nobody has the turn", err)
		} else {
			release()
		}
	})
}
