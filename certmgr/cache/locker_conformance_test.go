package cache_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

func TestMemoryLocks(t *testing.T) {
	cachetest.RunLockerInBubble(t, func(*testing.T) *cachetest.Store {
		m := new(cache.Memory)
		return &cachetest.Store{Open: func(*testing.T) cache.Cache { return m }}
	})
}

// A wrapper keeps the ability, and its Put goes through the encryption.
func TestEncryptedLocks(t *testing.T) {
	cachetest.RunLockerInBubble(t, func(*testing.T) *cachetest.Store {
		m := new(cache.Memory)
		return &cachetest.Store{Open: func(t *testing.T) cache.Cache { return mustEncrypt(t, m, testKey(1)) }}
	})
}

func TestGuardedPutIsEncrypted(t *testing.T) {
	m := new(cache.Memory)
	e := mustEncrypt(t, m, testKey(1))
	locker, ok := cache.LockerOf(e)
	if !ok {
		t.Fatal("an encrypted Memory is no Locker")
	}
	lease, err := locker.Lock(t.Context(), "example.com", "test", cache.MinLease*100)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Put(cache.Guard(t.Context(), lease), "example.com", []byte("the private key")); err != nil {
		t.Fatal(err)
	}
	checkGet(t, e, "example.com", "the private key")
	if data, err := m.Get(t.Context(), "example.com"); err != nil || bytes.Contains(data, []byte("private")) {
		t.Errorf("the store has %q, %v", data, err)
	}
}

// An entry that cannot be decrypted keeps no other from being read.
func TestGetManyOfEncryptedReportsWhatItCannotRead(t *testing.T) {
	m := new(cache.Memory)
	mustPut(t, mustEncrypt(t, m, testKey(1)), "old.example.com", "value")
	e := mustEncrypt(t, m, testKey(2))
	mustPut(t, e, "new.example.com", "value")
	mustPut(t, m, "plain.example.com", "value")
	keys := []string{"old.example.com", "new.example.com", "plain.example.com", "missing.example.com"}
	values, err := cache.GetMany(t.Context(), e, keys)
	if !errors.Is(err, cache.ErrKey) || !strings.Contains(err.Error(), "old.example.com") {
		t.Errorf("the error is %v, want ErrKey for old.example.com", err)
	}
	if len(values) != 2 || string(values["new.example.com"]) != "value" || string(values["plain.example.com"]) != "value" {
		t.Errorf("the values are %q", values)
	}
	e.RefusePlain = true
	if values, err = cache.GetMany(t.Context(), e, keys[1:]); len(values) != 1 || err == nil {
		t.Errorf("with RefusePlain: %q, %v", values, err)
	}
}

// The file system takes no virtual time.
func TestDirLocks(t *testing.T) {
	cachetest.RunLockerInBubble(t, func(t *testing.T) *cachetest.Store {
		dir := filepath.Join(t.TempDir(), "created", "by", "a", "lock")
		return &cachetest.Store{Open: func(*testing.T) cache.Cache { return cache.Dir(dir) }}
	})
}
