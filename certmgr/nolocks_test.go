package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// noLocks is a cache with the methods of a Locker whose store has no locks, as a
// directory on some file systems.
type noLocks struct{ cache.Cache }

func (noLocks) Lock(_ context.Context, name, _ string, _ time.Duration) (cache.Lease, error) {
	return nil, fmt.Errorf("lock %q: %w", name, errors.ErrUnsupported)
}

// A store without locks is used as it always was, and a warning says so.
func TestStoreWithoutLocks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Cache = noLocks{w.cache}
		w.mustGet("a.example.com")
		w.mustGet("b.example.com")
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Error(err)
		}
		if err := w.m.RollAccountKey(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * 24 * time.Hour) // it is renewed, and the CA is asked when
		w.mustGet("a.example.com")
		synctest.Wait()
		if n := len(w.events.of(audit.ConfigurationWarning)); n != 1 {
			t.Errorf("%d warnings, want one", n)
		}
		for _, kind := range []audit.Kind{audit.CacheReadFailed, audit.CacheUnavailable, audit.IssuanceElsewhere} {
			if e := w.events.of(kind); len(e) > 0 {
				t.Errorf("events of the kind %v: %v", kind, e)
			}
		}
	})
}

// That the store has no locks turns out after the issuance has begun.
func TestStoreWithoutLocksIsAskedOnceForEachMember(t *testing.T) {
	groupWorld(t, abc(), func(t *testing.T, w *world) {
		for name, c := range map[string]certmgr.Cache{"cannot lock": noLocks{w.cache}, "has no method Lock": w.cache} {
			w.restartGroup(abc()...)
			w.m.Cache = c
			w.cache.reads()
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
			read := make(map[string]int)
			for _, key := range w.cache.reads() {
				read[key]++
			}
			for _, host := range abc() {
				if n := read[host+"+failure"]; n != 1 {
					t.Errorf("a store that %s: the record of %s was read %d times, want once", name, host, n)
				}
			}
		}
	})
}

// A directory has locks for the processes of a machine. One that is used by a single
// server, as always, does not need the entry of an order.
func TestDirWithoutEntriesOfOrders(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "a.example.com"
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, host+"+order", "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		w.m.Cache = certmgr.DirCache(dir)
		w.mustGet(host)
		if err := w.m.Renew(t.Context(), host); err != nil {
			t.Error(err)
		}
	})
}
