package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// crash ends a process at one of its steps, each of which changes something: a
// write of the store or a request to the CA. What comes after it comes to
// nothing.
type crash struct {
	mu    sync.Mutex
	steps []string // so far
	at    string   // "" counts only
	after bool     // the step itself takes place
	once  bool     // it is no crash: only the answer is lost
	dead  bool
}

var errCrash = errors.New("the process has ended")

// step runs f unless the process is dead or dies before it.
func (c *crash) step(name string, f func() error) error {
	c.mu.Lock()
	c.steps = append(c.steps, name)
	dead, now, after := c.dead, c.at == name, c.after
	if now {
		c.dead = !c.once
		c.at = ""
	}
	c.mu.Unlock()
	if dead || now && !after {
		return errCrash
	}
	err := f()
	if now {
		return errCrash
	}
	return err
}

// crashStore has a crash at its writes, and at its reads once the process is
// dead.
type crashStore struct {
	Store
	*crash
}

func (c *crashStore) Get(ctx context.Context, name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil, errCrash
	}
	return c.Store.Get(ctx, name)
}

func (c *crashStore) Put(ctx context.Context, name string, data []byte) error {
	return c.step("put "+name, func() error { return c.Store.Put(ctx, name, data) })
}

func (c *crashStore) Delete(ctx context.Context, name string) error {
	return c.step("delete "+name, func() error { return c.Store.Delete(ctx, name) })
}

// transport has a crash at requests, which it names by their path.
func (c *crash) transport(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (res *http.Response, err error) {
		err = c.step("ask "+r.URL.Path, func() (err error) {
			res, err = base.RoundTrip(r)
			return err
		})
		if err != nil && res != nil {
			res.Body.Close()
			res = nil
		}
		return res, err
	})
}

// crashing is the setup of a machine that ends as c says.
func (s *site) crashing(c *crash) setup {
	set := s.setup()
	set.store = &crashStore{s.store, c}
	set.transport = c.transport(set.transport)
	return set
}

// crashes puts a machine in the place of the site's that ends as c says.
func (s *site) crashes(c *crash) {
	s.t.Helper()
	s.restart(s.crashing(c))
}

// The steps of a change of the key.
var changeSteps = []string{"put acme_account+key+next", "ask /key-change", "put acme_account+key", "delete acme_account+key+next"}

func TestStepsOfAKeyChange(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		c := new(crash)
		s.crashes(c)
		s.mustChange()
		steps := slices.DeleteFunc(c.steps, func(s string) bool {
			return strings.HasPrefix(s, "ask ") && !strings.HasSuffix(s, "/key-change")
		})
		if !slices.Equal(steps, changeSteps) {
			t.Fatalf("the steps are %q, want %q", steps, changeSteps)
		}
	})
}

// Wherever the process ends, the next one finds the account.
func TestKeyChangeSurvivesACrash(t *testing.T) {
	for _, step := range changeSteps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %v", step, after), func(t *testing.T) {
				atSite(t, func(t *testing.T, s *site) {
					s.mustUse()
					old := s.account()
					c := &crash{at: step, after: after}
					s.crashes(c)
					s.m.ChangeKey(t.Context())
					if !c.dead {
						t.Fatal("nothing happened")
					}
					s.restart(s.setup())
					s.mustUse()
					s.mustChange() // and nothing is in the way of the next change
					s.wantChanged(old, true)
					s.wantSettled()
					s.restart(s.setup())
					s.mustUse()
					s.account()
				})
			})
		}
	}
}

// The same for a process that continues, with and without a store: it finds out
// what the CA did, and tries each write again.
func TestKeyChangeSurvivesALostAnswer(t *testing.T) {
	for _, stored := range []bool{true, false} {
		for _, step := range changeSteps {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("store %v, %s, after %v", stored, step, after), func(t *testing.T) {
					atSite(t, func(t *testing.T, s *site) {
						c := &crash{once: true}
						set := s.crashing(c)
						if !stored {
							set.store = nil
						}
						s.restart(set)
						s.mustUse()
						old := s.account()
						c.at, c.after = step, after
						err := s.m.ChangeKey(t.Context())
						s.wantChanged(old, err == nil)
						s.mustUse()
						time.Sleep(time.Minute)
						s.mustUse()
						s.mustChange()
						s.wantChanged(old, true)
						if stored {
							s.wantSettled()
						}
					})
				})
			}
		}
	}
}

// Neither an answer nor a look at the account: it is found out when there is
// one.
func TestKeyChangeThatIsNotKnownToHaveHappened(t *testing.T) {
	for _, stored := range []bool{true, false} {
		for _, after := range []bool{true, false} {
			atSite(t, func(t *testing.T, s *site) {
				set := s.crashing(&crash{at: "ask /key-change", after: after, once: true})
				if !stored {
					set.store = nil
				}
				s.restart(set)
				s.mustUse()
				old := s.account()
				fault := s.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
				err := s.m.ChangeKey(t.Context())
				refusal, ok := errors.AsType[*acme.Error](err)
				if !ok || refusal.StatusCode != http.StatusServiceUnavailable || !errors.Is(err, errCrash) || !strings.Contains(err.Error(), "unknown") {
					t.Fatalf("ChangeKey: %v, want both causes", err)
				}
				fault.Lift()
				before := s.ca.Count(acmetest.NewOrder)
				s.mustUse()
				if n := s.ca.Count(acmetest.NewOrder) - before; n != 1 {
					t.Errorf("%d requests for an order, want 1, and none signed with the wrong key", n)
				}
				s.wantChanged(old, after)
				if n := len(s.events.of(audit.AccountKeyChanged)); after && n != 1 {
					t.Errorf("the change was reported %d times", n)
				}
			})
		}
	}
}

// What was cleared is written again, before anything changes.
func TestKeyChangeWithAClearedStore(t *testing.T) {
	for _, step := range []string{"", "put acme_account+key+next", "ask /key-change"} {
		atSite(t, func(t *testing.T, s *site) {
			c := new(crash)
			s.crashes(c)
			s.mustUse()
			old := s.account()
			s.store.clear(currentEntry, nextEntry)
			c.at = step
			s.m.ChangeKey(t.Context())
			s.restart(s.setup())
			s.mustChange()
			s.wantChanged(old, true)
			s.wantSettled()
		})
	}
}

// An entry of the next key that is damaged is never overwritten. It is in the
// way of a change, and of an account that the CA does not know by the other
// key.
func TestDamagedNextKeyIsAnErrorAndStays(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		garbage := []byte("garbage")
		s.store.set(nextEntry, garbage)
		for range 2 {
			if err := s.m.ChangeKey(t.Context()); err == nil || !strings.Contains(err.Error(), nextEntry) {
				t.Errorf("ChangeKey: %v, want an error that names the entry", err)
			}
			s.restart(s.setup())
		}
		s.mustUse() // the CA knows the other one
		s.restart(s.setup())
		s.store.set(currentEntry, encoded(t, newKey(t)))
		if err := s.m.use(t.Context()); err == nil || !strings.Contains(err.Error(), nextEntry) || !IsUnavailable(err) {
			t.Errorf("the account is used: %v, want an error that names the entry, and not the CA's", err)
		}
		if !bytes.Equal(s.store.data(nextEntry), garbage) {
			t.Error("the entry was overwritten")
		}
		s.account()
	})
}

// A store that cannot be read says nothing about the next key.
func TestUnreadableNextKeyMakesNoNewAccount(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		s.crashes(&crash{at: "put " + currentEntry}) // the CA has the new key, the store has it as the next one
		s.m.ChangeKey(t.Context())
		s.restart(s.setup())
		s.store.hook(failing(nextEntry), nil)
		if err := s.m.use(t.Context()); !errors.Is(err, errDisk) || !IsUnavailable(err) {
			t.Errorf("the account is used: %v, want the store's error", err)
		}
		s.account()
		s.store.hook(nil, nil)
		s.mustUse()
		s.wantSettled()
		s.restart(s.setup())
		s.store.hook(failing(nextEntry), nil)
		s.mustUse() // the CA knows the other one
		s.account()
	})
}

// A next key that the CA does not know may be one that another machine is about
// to tell it of: the entry stays.
func TestNextKeyThatTheCADoesNotKnowStays(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		s.crashes(&crash{at: "ask /key-change"})
		s.m.ChangeKey(t.Context())
		next := s.keyIn(nextEntry)
		s.restart(s.setup())
		s.mustUse()
		if next == "" || s.keyIn(nextEntry) != next {
			t.Error("the next key was lost")
		}
	})
}

// The CA's accounts are gone, and so is everything that either key was good
// for.
func TestAccountThatTheCAForgotDuringAChangeIsMadeAnew(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		s.crashes(&crash{at: "ask /key-change"})
		s.m.ChangeKey(t.Context())
		next := s.keyIn(nextEntry)
		s.ca.Close()
		s.ca = acmetest.NewMemoryServer()
		s.restart(s.setup())
		s.mustUse()
		s.wantSettled() // with the newer key: had the change been made after all, it would find the account
		if now := s.account().Thumbprint; now != next {
			t.Errorf("the new account has the key %s, want %s", now, next)
		}
		if len(s.events.of(audit.AccountKeyChanged)) != 0 {
			t.Error("a change was reported that did not take place")
		}
	})
}
