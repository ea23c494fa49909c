package certmgr_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// The entries of the account key and of the key that is to take its place.
const (
	accountCacheKey     = "acme_account+key"
	nextAccountCacheKey = "acme_account+key+next"
)

// keyIn returns the thumbprint of an entry's key, or "" if there is none.
func (w *world) keyIn(name string) string {
	w.t.Helper()
	data, err := w.cache.Cache.Get(w.t.Context(), name)
	if errors.Is(err, certmgr.ErrCacheMiss) {
		return ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	key, _, err := bundle.DecodeKey(data)
	if err != nil {
		w.t.Fatal(err)
	}
	return thumbprint(w.t, key)
}

func thumbprint(t *testing.T, key crypto.Signer) string {
	t.Helper()
	s, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantSettled checks that the cache has the account's key in its place and nothing else.
func (w *world) wantSettled() {
	w.t.Helper()
	acc := w.account()
	if got := w.keyIn(accountCacheKey); got != acc.Thumbprint {
		w.t.Errorf("the cache has the key %q, the CA %q", got, acc.Thumbprint)
	}
	if w.keyIn(nextAccountCacheKey) != "" {
		w.t.Error("the entry of the next key is still there")
	}
}

func (w *world) mustRoll() {
	w.t.Helper()
	if err := w.m.RollAccountKey(w.t.Context()); err != nil {
		w.t.Fatalf("RollAccountKey: %v", err)
	}
}

func TestAccountGetsAnotherKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		old := w.account()
		w.mustRoll()
		now := w.account()
		if now.URL != old.URL || now.Thumbprint == old.Thumbprint {
			t.Fatalf("the account was %v and is %v", old, now)
		}
		w.wantSettled()
		events := w.events.of(audit.AccountKeyChanged)
		if len(events) != 1 || !strings.Contains(events[0].Reason, now.URL) || !strings.Contains(events[0].Reason, now.Thumbprint) {
			t.Errorf("the event does not tell account and key: %v", events)
		}
		w.mustGet("b.example.com")
		w.restart()
		w.mustGet("c.example.com")
		w.account()
	})
}

// The first use of a Manager may be this.
func TestKeyChangeFindsTheAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Email = "old@example.com"
		w.mustRoll()
		w.wantSettled()
		w.restart()
		w.m.Email = "ops@example.com"
		w.mustRoll()
		w.wantSettled()
		if got := w.account().Contact; !slices.Equal(got, []string{"mailto:ops@example.com"}) {
			t.Errorf("the contact is %q: the change of the key came in between", got)
		}
	})
}

// A cache that cannot be written keeps the CA from being asked, or is written later;
// in no case is a key lost.
func TestKeyChangeWithACacheThatCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		old := w.account()
		fail := func(keys ...string) {
			w.cache.put(func(_ context.Context, key string) error {
				if slices.Contains(keys, key) {
					return errDisk
				}
				return nil
			})
		}
		fail(nextAccountCacheKey)
		if err := w.m.RollAccountKey(t.Context()); !errors.Is(err, errDisk) || !errors.Is(err, certmgr.ErrCache) {
			t.Errorf("RollAccountKey: %v, want the cache's error", err)
		}
		if n := w.ca.Count(acmetest.KeyChange); n != 0 || w.account().Thumbprint != old.Thumbprint {
			t.Errorf("the CA got %d key changes for a key that is not saved", n)
		}
		fail(accountCacheKey)
		w.mustRoll()
		if now := w.account(); w.keyIn(nextAccountCacheKey) != now.Thumbprint || now.Thumbprint == old.Thumbprint {
			t.Errorf("the new key is not in the cache")
		}
		// The entry of the next key is all there is of this one: it stays.
		if err := w.m.RollAccountKey(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("RollAccountKey: %v, want the cache's error", err)
		}
		if now := w.account(); w.keyIn(nextAccountCacheKey) != now.Thumbprint {
			t.Errorf("the only copy of the account key was overwritten")
		}
		w.mustGet("b.example.com")
		w.cache.put(nil)
		time.Sleep(time.Hour)
		w.wantSettled()
		if n := len(w.events.of(audit.CacheWriteRecovered)); n != 1 {
			t.Errorf("%d events of the recovery, want 1", n)
		}
	})
}

// A caller that needs the account does not wait for the cache, which is written
// later.
func TestChangedKeyIsUsedBeforeItIsSaved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.cache.put(func(ctx context.Context, key string) error {
			if key == accountCacheKey {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(w.mustRoll)
		synctest.Wait()
		start := time.Now()
		w.mustGet("b.example.com")
		if d := time.Since(start); d > time.Second {
			t.Errorf("an issuance waited %v for the cache", d)
		}
		wg.Wait()
		w.cache.put(nil)
		time.Sleep(time.Hour)
		w.wantSettled()
	})
}

func TestRefusedKeyChangeChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		old := w.account()
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.KeyChange}, http.StatusForbidden, nil, acmetest.Problem{Type: "unauthorized", Detail: "not today"})
		err := w.m.RollAccountKey(t.Context())
		if problem, ok := errors.AsType[*acme.Error](err); !ok || problem.StatusCode != http.StatusForbidden {
			t.Errorf("RollAccountKey: %v, want the CA's problem", err)
		}
		if !strings.Contains(err.Error(), w.ca.URL) || strings.Contains(err.Error(), "\n") || len(err.Error()) > text.MaxError {
			t.Errorf("the error is not one line that names the CA: %q", err)
		}
		if w.account().Thumbprint != old.Thumbprint || len(w.events.of(audit.AccountKeyChanged)) != 0 {
			t.Error("the key is another one")
		}
		w.wantSettled()
		fault.Lift()
		w.mustGet("b.example.com")
	})
}

func TestCAWithoutKeyChange(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		res, err := w.ca.Client().Get(w.ca.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		dir := make(map[string]any)
		if err := json.NewDecoder(res.Body).Decode(&dir); err != nil {
			t.Fatal(err)
		}
		delete(dir, "keyChange")
		body, err := json.Marshal(dir)
		if err != nil {
			t.Fatal(err)
		}
		w.ca.Respond(acmetest.Match{Endpoint: acmetest.Directory}, http.StatusOK, nil, string(body))
		if err := w.m.RollAccountKey(t.Context()); err == nil || !strings.Contains(err.Error(), "does not support") {
			t.Errorf("RollAccountKey: %v", err)
		}
	})
}

func TestConcurrentKeyChangesAreOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.KeyChange})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(w.mustRoll)
		}
		synctest.Wait()
		fault.Lift()
		wg.Wait()
		if n := w.ca.Count(acmetest.KeyChange); n != 1 {
			t.Errorf("%d key changes, want 1", n)
		}
		w.wantSettled()
	})
}

// If the caller stops waiting, the change continues, within its own bound.
func TestKeyChangeOutlivesItsCaller(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		old := w.account()
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.KeyChange})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.m.RollAccountKey(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("RollAccountKey: %v", err)
		}
		w.mustGet("b.example.com") // meanwhile
		fault.Lift()
		if w.account().Thumbprint == old.Thumbprint {
			t.Error("the change ended with its caller")
		}
		w.wantSettled()
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.KeyChange})
		start := time.Now()
		if err := w.m.RollAccountKey(t.Context()); err == nil {
			t.Error("RollAccountKey succeeded without an answer")
		}
		if d := time.Since(start); d > 3*time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

// A key that is the user's is not changed.
func TestKeyOfTheUserIsNotChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key, err := bundle.GenerateKey(bundle.P256)
		if err != nil {
			t.Fatal(err)
		}
		w.m.Client.Key = key
		w.mustGet("a.example.com")
		if err := w.m.RollAccountKey(t.Context()); err == nil || !strings.Contains(err.Error(), "Manager.Client") {
			t.Errorf("RollAccountKey: %v", err)
		}
		if n := w.ca.Count(acmetest.KeyChange); n != 0 || w.account().Thumbprint != thumbprint(t, key) {
			t.Errorf("the CA got %d key changes", n)
		}
	})
}

// Without a Cache the account is one for as long as the Manager lives.
func TestKeyChangeWithoutACache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = nil
		w.mustGet("a.example.com")
		old := w.account()
		for range 3 {
			w.mustRoll()
		}
		w.mustGet("b.example.com")
		if now := w.account(); now.URL != old.URL || now.Thumbprint == old.Thumbprint {
			t.Errorf("the account was %v and is %v", old, now)
		}
	})
}

// No event and no error shows a key.
func TestKeyChangeShowsNoKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.mustRoll()
		data, err := w.cache.Get(t.Context(), accountCacheKey)
		if err != nil {
			t.Fatal(err)
		}
		key, _, err := bundle.DecodeKey(data)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := key.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		w.account()
		if log := w.events.String(); strings.Contains(log, fmt.Sprintf("%x", secret)) || strings.Contains(log, "PRIVATE") {
			t.Error("the events show a private key")
		}
	})
}
