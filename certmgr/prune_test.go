package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// aged is a world whose certificates of "old" hosts ended a year ago.
func aged(t *testing.T, f func(t *testing.T, w *world, store *cache.Memory)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		store := w.cache.Cache.(*cache.Memory)
		old := certmgr.MustAllowlist("old.example.com", "kept.example.com", "policy.example.com", "undecided.example.com")
		if err := old.AddGroup("x.example.com", "y.example.com"); err != nil {
			t.Fatal(err)
		}
		w.m.Hosts = old
		for _, host := range []string{"old.example.com", "kept.example.com", "policy.example.com", "undecided.example.com", "x.example.com"} {
			w.mustGet(host)
		}
		if _, err := w.m.GetCertificate(rsaHello("old.example.com")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{
			"damaged.example.com":     "garbage",
			"old.example.com+failure": "{}",
			"old.example.com+order":   "{}",
			"token+http-01":           "answer",
			"unknown":                 "?",
			"acme_account.key":        "?",
			"foreign.example.com":     string(mustValue(t, store, "kept.example.com")),
		} {
			if err := store.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * day)
		w.m = w.manager()
		w.m.Cache = store
		w.m.Hosts = certmgr.MustAllowlist("a.example.com", "kept.example.com")
		w.m.HostPolicy = func(_ context.Context, host string) error {
			switch host {
			case "policy.example.com":
				return nil
			case "undecided.example.com":
				return certmgr.ErrPolicy
			}
			return errors.New("not mine")
		}
		w.reach()
		w.mustGet("a.example.com")
		synctest.Wait()
		f(t, w, store)
	})
}

func mustValue(t *testing.T, c cache.Cache, key string) []byte {
	t.Helper()
	data, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// keysOf returns the keys of a store, sorted.
func keysOf(t *testing.T, store cache.Lister) []string {
	t.Helper()
	var keys []string
	for key, err := range store.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func TestPruneReportsAndDeletesOnRequest(t *testing.T) {
	aged(t, func(t *testing.T, w *world, store *cache.Memory) {
		before := keysOf(t, store)
		report, err := w.m.Prune(t.Context(), certmgr.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(before), func(key string) bool {
			return !strings.HasPrefix(key, "san-") && key != "old.example.com" && key != "old.example.com+rsa"
		})
		slices.Sort(report.Keys)
		if !slices.Equal(report.Keys, want) || len(want) != 3 {
			t.Errorf("found %q, want %q", report.Keys, want)
		}
		if report.Entries != len(before) || report.Prunable != 3 || report.Deleted != 0 || report.Unreadable != 2 ||
			report.Certificates != 7 || report.Entries != report.Certificates+report.Unreadable+report.Other {
			t.Errorf("%+v of %q", report, before)
		}
		if now := keysOf(t, store); !slices.Equal(now, before) {
			t.Errorf("the Cache has %q, before it had %q", now, before)
		}
		if report, err = w.m.Prune(t.Context(), certmgr.PruneOptions{OlderThan: 1000 * day, Delete: true}); err != nil || report.Prunable != 0 {
			t.Errorf("older than 1,000 days: %+v, %v", report, err)
		}

		report, err = w.m.Prune(t.Context(), certmgr.PruneOptions{Delete: true})
		if err != nil || report.Deleted != 3 {
			t.Errorf("%+v, %v", report, err)
		}
		left := slices.DeleteFunc(slices.Clone(before), func(key string) bool { return slices.Contains(want, key) })
		if now := keysOf(t, store); !slices.Equal(now, left) {
			t.Errorf("the Cache has %q, want %q", now, left)
		}
		if events := w.events.of(audit.CachePruned); len(events) != 1 || events[0].Count != 3 {
			t.Errorf("events: %v", events)
		}
	})
}

// storeOf is a store that lists its keys, behind a Cache with faults.
type storeOf struct {
	certmgr.Cache
	store *cache.Memory
}

func (c storeOf) Unwrap() cache.Cache { return c.store }

func TestPruneLeavesWhatHasChanged(t *testing.T) {
	aged(t, func(t *testing.T, w *world, store *cache.Memory) {
		reads := 0
		w.cache.Cache = store
		w.cache.get(func(ctx context.Context, key string) error {
			if key == "old.example.com" {
				if reads++; reads == 2 {
					return store.Put(ctx, key, []byte("renewed elsewhere"))
				}
			}
			return nil
		})
		w.restart()
		w.m.Cache = storeOf{w.cache, store}
		report, err := w.m.Prune(t.Context(), certmgr.PruneOptions{Delete: true})
		if err != nil || report.Prunable != report.Deleted+1 {
			t.Errorf("%+v, %v", report, err)
		}
		if data := mustValue(t, store, "old.example.com"); string(data) != "renewed elsewhere" {
			t.Errorf("the entry is %q", data)
		}
	})
}

func TestPruneFails(t *testing.T) {
	aged(t, func(t *testing.T, w *world, store *cache.Memory) {
		w.cache.Cache = store
		w.restart()
		w.m.Cache = storeOf{w.cache, store}
		w.cache.get(storeIsDown)
		before := keysOf(t, store)
		if _, err := w.m.Prune(t.Context(), certmgr.PruneOptions{Delete: true}); !errors.Is(err, certmgr.ErrCache) || !errors.Is(err, errStoreDown) {
			t.Errorf("the store is down: %v", err)
		}
		w.cache.get(storeHangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.m.Prune(ctx, certmgr.PruneOptions{Delete: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context ended: %v", err)
		}
		if now := keysOf(t, store); !slices.Equal(now, before) {
			t.Errorf("the Cache has %q, before it had %q", now, before)
		}
		time.Sleep(time.Minute)
		closed := make(chan error, 1)
		go func() {
			_, err := w.m.Prune(context.Background(), certmgr.PruneOptions{Delete: true})
			closed <- err
		}()
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if err := <-closed; !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if _, err := w.m.Prune(t.Context(), certmgr.PruneOptions{}); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("closed before: %v", err)
		}
		for name, c := range map[string]certmgr.Cache{"none": nil, "cannot list": &faultyCache{Cache: store}} {
			w.m = w.manager()
			w.m.Cache = c
			if _, err := w.m.Prune(t.Context(), certmgr.PruneOptions{}); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
			w.m.Close()
		}
	})
}

// An entry that cannot be read is counted, and the others are pruned.
func TestPruneOfAnEncryptedCache(t *testing.T) {
	aged(t, func(t *testing.T, w *world, store *cache.Memory) {
		encrypted, err := cache.Encrypted(store, []byte(strings.Repeat("k", cache.KeySize)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := encrypted.Rewrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), "kept.example.com", []byte("-----BEGIN NOSTALL ENCRYPTED ENTRY-----\n")); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.m.Cache = encrypted
		w.m.Hosts = certmgr.MustAllowlist("a.example.com")
		report, err := w.m.Prune(t.Context(), certmgr.PruneOptions{Delete: true})
		if err != nil || report.Unreadable != 3 || report.Deleted != 5 {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

// The report of a large store has a bound, and the rest of it is counted.
func TestPruneOfManyEntries(t *testing.T) {
	aged(t, func(t *testing.T, w *world, store *cache.Memory) {
		const many = 3000
		for i := range many {
			if err := store.Put(t.Context(), fmt.Sprintf("h%d.example.org", i), []byte("garbage")); err != nil {
				t.Fatal(err)
			}
		}
		report, err := w.m.Prune(t.Context(), certmgr.PruneOptions{})
		if err != nil || report.Unreadable != many+2 || report.Prunable != 3 {
			t.Errorf("%+v, %v", report, err)
		}
	})
}
