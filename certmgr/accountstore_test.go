package certmgr

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
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// crash ends a process at one of its steps, each of which changes something: a
// write of the Cache or a request to the CA. What comes after it comes to nothing.
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

// crashCache has a crash at its writes, and at its reads once it is dead.
type crashCache struct {
	Cache
	*crash
}

func (c *crashCache) Get(ctx context.Context, key string) (data []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil, errCrash
	}
	return c.Cache.Get(ctx, key)
}

func (c *crashCache) Put(ctx context.Context, key string, data []byte) error {
	return c.step("put "+key, func() error { return c.Cache.Put(ctx, key, data) })
}

func (c *crashCache) Delete(ctx context.Context, key string) error {
	return c.step("delete "+key, func() error { return c.Cache.Delete(ctx, key) })
}

// RoundTrip counts signed requests by the last element of their path.
func (c *crash) roundTrip(base http.RoundTripper) http.RoundTripper {
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

// crashes puts a Manager in the world's place that ends as c says.
func (w *world) crashes(c *crash) {
	w.t.Helper()
	w.restart()
	w.m.Cache = &crashCache{w.cache, c}
	w.m.Client.HTTPClient = &http.Client{Transport: c.roundTrip(w.ca.Client().Transport)}
}

// Wherever the process ends, the next one finds the account.
func TestKeyChangeSurvivesACrash(t *testing.T) {
	var steps []string
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		c := new(crash)
		w.crashes(c)
		w.mustRoll()
		steps = slices.DeleteFunc(c.steps, func(s string) bool { return strings.HasPrefix(s, "ask ") && !strings.HasSuffix(s, "/key-change") })
	})
	want := []string{"put acme_account+key+next", "ask /key-change", "put acme_account+key", "delete acme_account+key+next"}
	if !slices.Equal(steps, want) {
		t.Fatalf("the steps are %q, want %q", steps, want)
	}
	for _, step := range steps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %v", step, after), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.mustGet("a.example.com")
					old := w.account()
					c := &crash{at: step, after: after}
					w.crashes(c)
					w.m.RollAccountKey(t.Context())
					if !c.dead {
						t.Fatal("nothing happened")
					}
					w.restart()
					w.mustGet("b.example.com")
					if now := w.account(); now.URL != old.URL {
						t.Errorf("the account was %v and is %v", old, now)
					}
					w.mustRoll() // and nothing is in the way of the next change
					w.wantSettled()
					w.restart()
					w.mustGet("c.example.com")
					w.account()
				})
			})
		}
	}
}

// The same for a process that goes on, with and without a Cache: what the CA did is
// found out, and each write is tried again.
func TestKeyChangeSurvivesALostAnswer(t *testing.T) {
	for _, cached := range []bool{true, false} {
		for _, step := range []string{"put acme_account+key+next", "ask /key-change", "put acme_account+key", "delete acme_account+key+next"} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("cache %v, %s, after %v", cached, step, after), func(t *testing.T) {
					inBubble(t, func(t *testing.T, w *world) {
						c := &crash{once: true}
						w.crashes(c)
						if !cached {
							w.m.Cache = nil
						}
						w.mustGet("a.example.com")
						old := w.account()
						c.at, c.after = step, after
						err := w.m.RollAccountKey(t.Context())
						changed := w.account().Thumbprint != old.Thumbprint
						if (err == nil) != changed {
							t.Errorf("RollAccountKey: %v, but the CA has the new key: %v", err, changed)
						}
						w.mustGet("b.example.com")
						time.Sleep(time.Minute)
						w.mustGet("c.example.com")
						if now := w.account(); now.URL != old.URL {
							t.Errorf("the account was %v and is %v", old, now)
						}
						if len(w.events.of(audit.IssuanceFailed)) != 0 {
							t.Error("an issuance failed")
						}
						w.mustRoll()
						if cached {
							w.wantSettled()
						}
					})
				})
			}
		}
	}
}

// Neither an answer nor a look at the account: it is found out when there is one.
func TestKeyChangeThatIsNotKnownToHaveHappened(t *testing.T) {
	for _, cached := range []bool{true, false} {
		for _, after := range []bool{true, false} {
			inBubble(t, func(t *testing.T, w *world) {
				c := &crash{at: "ask /key-change", after: after, once: true}
				w.crashes(c)
				if !cached {
					w.m.Cache = nil
				}
				w.mustGet("a.example.com")
				old := w.account()
				lift := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
				err := w.m.RollAccountKey(t.Context())
				problem, ok := errors.AsType[*acme.Error](err)
				if !ok || problem.StatusCode != http.StatusServiceUnavailable || !errors.Is(err, errCrash) || !strings.Contains(err.Error(), "not known") {
					t.Fatalf("RollAccountKey: %v, want both causes", err)
				}
				lift()
				w.mustGet("b.example.com")
				w.wantOrders("b.example.com", 1) // and none signed with the wrong key
				if now := w.account(); now.URL != old.URL || (now.Thumbprint != old.Thumbprint) != after {
					t.Errorf("the account was %v and is %v", old, now)
				}
				if after && len(w.events.of(audit.AccountKeyChanged)) != 1 {
					t.Error("the change was not reported")
				}
			})
		}
	}
}

// What was cleared is written again, before anything changes.
func TestKeyChangeWithAClearedCache(t *testing.T) {
	for _, step := range []string{"", "put acme_account+key+next", "ask /key-change"} {
		inBubble(t, func(t *testing.T, w *world) {
			c := new(crash)
			w.crashes(c)
			w.mustGet("a.example.com")
			old := w.account()
			w.m.Cache.(*crashCache).Cache.(*faultyCache).Cache = new(cache.Memory)
			c.at = step
			w.m.RollAccountKey(t.Context())
			w.restart()
			w.mustRoll()
			if now := w.account(); now.URL != old.URL {
				t.Errorf("the account was %v and is %v", old, now)
			}
			w.wantSettled()
		})
	}
}

// An entry of the next key that is damaged is never overwritten. It is in the way
// of a change, and of an account that the CA does not know by the other key.
func TestDamagedNextKeyIsAnErrorAndStays(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		garbage := []byte("garbage")
		w.cache.Cache.Put(t.Context(), nextAccountCacheKey, garbage)
		for range 2 {
			if err := w.m.RollAccountKey(t.Context()); err == nil || !strings.Contains(err.Error(), nextAccountCacheKey) {
				t.Errorf("RollAccountKey: %v, want an error that names the entry", err)
			}
			w.restart()
		}
		w.mustGet("b.example.com") // the CA knows the other one
		w.restart()
		other, err := bundle.GenerateKey(bundle.ECDSA)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := bundle.EncodeKey(&buf, other); err != nil {
			t.Fatal(err)
		}
		w.cache.Cache.Put(t.Context(), accountCacheKey, buf.Bytes())
		if _, err := w.get("c.example.com"); err == nil || !strings.Contains(err.Error(), nextAccountCacheKey) {
			t.Errorf("GetCertificate: %v, want an error that names the entry", err)
		}
		w.wantErr("d.example.com", ErrNoAccount)
		if data, err := w.cache.Get(t.Context(), nextAccountCacheKey); err != nil || !bytes.Equal(data, garbage) {
			t.Errorf("the entry was overwritten: %v", err)
		}
		w.account()
	})
}

// A cache that cannot be read says nothing about the next key.
func TestUnreadableNextKeyMakesNoNewAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.crashes(&crash{at: "put " + accountCacheKey}) // the CA has the new key, the cache has it as the next one
		w.m.RollAccountKey(t.Context())
		w.restart()
		unreadable := func(_ context.Context, key string) error {
			if key == nextAccountCacheKey {
				return errDisk
			}
			return nil
		}
		w.cache.get(unreadable)
		if _, err := w.get("b.example.com"); !errors.Is(err, errDisk) {
			t.Errorf("GetCertificate: %v, want the cache's error", err)
		}
		w.account()
		w.cache.get(nil)
		time.Sleep(2 * time.Minute)
		w.mustGet("b.example.com")
		w.account()
		w.wantSettled()
		w.restart()
		w.cache.get(unreadable)
		w.mustGet("c.example.com") // the CA knows the other one
		w.account()
	})
}

// A next key that the CA does not know may be one that another machine is about to
// tell it of: the entry stays.
func TestNextKeyThatTheCADoesNotKnowStays(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.crashes(&crash{at: "ask /key-change"})
		w.m.RollAccountKey(t.Context())
		next := w.keyIn(nextAccountCacheKey)
		w.restart()
		w.mustGet("b.example.com")
		if next == "" || w.keyIn(nextAccountCacheKey) != next {
			t.Error("the next key was lost")
		}
	})
}

// The CA's accounts are gone, and so is everything that either key was good for.
func TestAccountThatTheCAForgotDuringAChangeIsMadeAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.crashes(&crash{at: "ask /key-change"})
		w.m.RollAccountKey(t.Context())
		w.restart()
		next := w.keyIn(nextAccountCacheKey)
		ca := acmetest.NewMemoryServer()
		defer ca.Close()
		w.ca.Close()
		w.ca = ca
		w.m.Client = &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}
		w.reach()
		w.mustGet("b.example.com")
		w.wantSettled() // with the newer key: had the change been made after all, it would find the account
		if now := w.account().Thumbprint; now != next {
			t.Errorf("the new account has the key %s, want %s", now, next)
		}
		if len(w.events.of(audit.AccountKeyChanged)) != 0 {
			t.Error("a change was reported that did not take place")
		}
	})
}
