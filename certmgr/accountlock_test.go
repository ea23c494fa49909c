package certmgr_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// fleet returns three Managers that share a store with locks, the world's among
// them.
func (w *world) fleet() (*leasing, []*certmgr.Manager) {
	store := &leasing{Cache: w.cache}
	w.m.Close()
	w.m = w.manager()
	machines := []*certmgr.Manager{w.m, w.manager(), w.manager()}
	for _, m := range machines {
		m.Cache = store
	}
	w.reach()
	return store, machines
}

func TestFleetRegistersOneAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		w.cache.get(func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil })
		var wg sync.WaitGroup
		for i, m := range machines {
			defer m.Close()
			wg.Go(func() {
				if err := m.Obtain(t.Context(), string(rune('a'+i))+".example.com"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(w.ca.Accounts()); n != 1 {
			t.Errorf("three machines registered %d accounts, want one", n)
		}
		if names := strings.Join(store.names(), " "); !strings.Contains(names, "account+") {
			t.Errorf("the locks taken were %q, and none of them is the account's", names)
		}
		for _, m := range machines {
			if err := m.RollAccountKey(t.Context()); err != nil {
				t.Errorf("RollAccountKey: %v", err)
			}
		}
		for _, m := range machines {
			if err := m.Renew(t.Context(), "d.example.com"); err != nil && !errors.Is(err, certmgr.ErrInFlight) {
				t.Errorf("a renewal after the key was changed three times: %v", err)
			}
		}
		if n := len(w.ca.Accounts()); n != 1 {
			t.Errorf("%d accounts after the key was changed, want one", n)
		}
	})
}

func accountLock(t *testing.T, w *world) string {
	t.Helper()
	store, machines := w.fleet()
	defer machines[1].Close()
	if err := machines[1].Obtain(t.Context(), "d.example.com"); err != nil {
		t.Fatal(err)
	}
	for _, name := range store.names() {
		if strings.HasPrefix(name, "account+") {
			return name
		}
	}
	t.Fatal("the account was not locked")
	return ""
}

// A machine that died while it registered the account is replaced when its lease
// ends. One that lives is waited for, and named.
func TestAccountThatAnotherMachineHasLocked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		name := accountLock(t, w)
		for _, lives := range []bool{false, true} {
			store, machines := w.fleet()
			store.Cache = new(cache.Memory)
			lease, err := store.Lock(t.Context(), name, "machine-7", 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if lives {
				lease.Extend(t.Context(), time.Hour)
			}
			began := time.Now()
			err = machines[0].Obtain(t.Context(), "a.example.com")
			took := time.Since(began)
			for _, m := range machines {
				m.Close()
			}
			switch {
			case !lives && (err != nil || took < 30*time.Second || took > 35*time.Second):
				t.Errorf("the machine that had the account locked has died: %v after %v; want success within lease + 5 s", err, took)
			case lives && (!errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(err.Error(), "by machine-7") || took > time.Minute):
				t.Errorf("the account is locked: %v after %v; want an error that says by whom, soon", err, took)
			}
		}
	})
}

// The lock is kept as long as the work takes, however slow the CA is, and free at
// once when it is done.
func TestAccountStaysLockedWhileItIsRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		store, machines := w.fleet()
		for _, m := range machines {
			defer m.Close()
			m.Prompt = func(string) bool { time.Sleep(35 * time.Second); return true }
		}
		var wg sync.WaitGroup
		for i, m := range machines {
			wg.Go(func() {
				if err := m.Obtain(t.Context(), string(rune('a'+i))+".example.com"); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(34 * time.Second)
		taken := 0
		for _, name := range store.names() {
			if strings.HasPrefix(name, "account+") {
				taken++
			}
		}
		if taken > 1 {
			t.Errorf("the account was locked %d times while it was registered", taken)
		}
		wg.Wait()
		if n := len(w.ca.Accounts()); n != 1 {
			t.Errorf("%d accounts, want one", n)
		}
	}, func(ca *acmetest.Server) { ca.Terms = "https://ca.example/terms" })
}
