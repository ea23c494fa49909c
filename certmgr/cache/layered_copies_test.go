package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

var errReadOnly = errors.New("read-only file system")

// readOnly makes changes of a store fail.
func readOnly(s *store) {
	s.fail(func(_ context.Context, op, _ string) error {
		if op == "get" {
			return nil
		}
		return errReadOnly
	})
}

func TestCopiesThatCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		f := follow(t, l)
		mustPut(t, l, "a.example.com", "old")
		synctest.Wait()
		readOnly(local)
		mustPut(t, l, "a.example.com", "new") // the store has it
		f.expect("copies: " + `cache: write the local copy of "a.example.com": read-only file system`)
		expectValue(t, l, "a.example.com", "new")
		if err := l.Delete(t.Context(), "a.example.com"); !errors.Is(err, errReadOnly) {
			t.Errorf("Delete: %v, want the copy's error: it would be served later", err)
		}
		expectMiss(t, l, "a.example.com")
	})
}

// A disk that hangs harms no read and no write, and is not filled with waiting
// copies.
func TestCopiesAreWrittenBehind(t *testing.T) {
	const entries = 3000
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		local.fail(hangs)
		began := time.Now()
		for i := range entries {
			key := fmt.Sprintf("h%d.example.com", i)
			mustPut(t, l, key, "value")
			expectValue(t, l, key, "value")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		local.fail(nil)
		follow(t, l)
		time.Sleep(2 * time.Minute) // those for which there was no room are read again
		synctest.Wait()
		lacking := 0
		for i := range entries {
			if _, err := local.Memory.Get(t.Context(), fmt.Sprintf("h%d.example.com", i)); err != nil {
				lacking++
			}
		}
		if lacking > 4 { // those that were being written
			t.Errorf("%d entries have no copy", lacking)
		}
	})
}

func TestAPutThatTheStoreRefusesLeavesTheCopy(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "old")
		synctest.Wait()
		remote.fail(func(context.Context, string, string) error { return cache.ErrLost })
		if err := l.Put(t.Context(), "a.example.com", []byte("new")); !errors.Is(err, cache.ErrLost) {
			t.Errorf("Put: %v", err)
		}
		synctest.Wait()
		expectValue(t, &local.Memory, "a.example.com", "old")
	})
}

// The store may have taken a value although the write failed.
func TestAnAmbiguousPutIsLookedAtAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		follow(t, l)
		mustPut(t, l, "a.example.com", "old")
		synctest.Wait()
		remote.fail(func(_ context.Context, op, _ string) error {
			if op == "put" {
				return errDown
			}
			return nil
		})
		mustPut(t, &remote.Memory, "a.example.com", "new")
		if err := l.Put(t.Context(), "a.example.com", []byte("new")); err == nil {
			t.Error("Put: no error")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		expectValue(t, &local.Memory, "a.example.com", "new")
	})
}

// A crash between the two writes leaves an outdated copy.
func TestAnOutdatedCopyIsReplacedByARead(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, &local.Memory, "a.example.com", "old")
		mustPut(t, &remote.Memory, "a.example.com", "new")
		expectValue(t, l, "a.example.com", "new")
		synctest.Wait()
		expectValue(t, &local.Memory, "a.example.com", "new")
		expectValue(t, l, "a.example.com", "new")
		synctest.Wait()
		if n := local.count("put"); n != 1 {
			t.Errorf("the copy was written %d times, want once", n)
		}
	})
}

// A read that began before a change must not bring the old value back.
func TestASlowReadDoesNotOverwriteANewerCopy(t *testing.T) {
	for _, what := range []string{"put", "delete"} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
				mustPut(t, l, "a.example.com", "old")
				slow := slowReader{remote}
				l = cache.Layered(local, slow)
				var group sync.WaitGroup
				group.Go(func() { expectValue(t, l, "a.example.com", "old") })
				synctest.Wait()
				if what == "put" {
					mustPut(t, l, "a.example.com", "new")
				} else if err := l.Delete(t.Context(), "a.example.com"); err != nil {
					t.Error(err)
				}
				group.Wait()
				synctest.Wait()
				if what == "put" {
					expectValue(t, &local.Memory, "a.example.com", "new")
				} else {
					expectMiss(t, &local.Memory, "a.example.com")
				}
			})
		})
	}
}

// slowReader reads, and returns a second later.
type slowReader struct{ *store }

func (s slowReader) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := s.Memory.Get(ctx, key)
	time.Sleep(time.Second)
	return data, err
}

func TestAPanicOfTheLocalCacheIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		f := follow(t, l)
		local.fail(func(context.Context, string, string) error { panic("local") })
		mustPut(t, l, "a.example.com", "value")
		f.expect("copies: " + `cache: write the local copy of "a.example.com": the local cache panicked: local`)
	})
}

func TestCopyNeedsALister(t *testing.T) {
	if _, err := cache.Copy(t.Context(), new(cache.Memory), slowReader{}.plain()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Copy: %v", err)
	}
	from, to := new(cache.Memory), new(cache.Memory)
	for _, key := range []string{"a.example.com", "b.example.com"} {
		mustPut(t, from, key, "from")
	}
	mustPut(t, to, "b.example.com", "to")
	if n, err := cache.Copy(t.Context(), to, from); n != 1 || err != nil {
		t.Errorf("Copy: %d, %v, want 1", n, err)
	}
	expectValue(t, to, "a.example.com", "from")
	expectValue(t, to, "b.example.com", "to")
}

// What layers return may be a copy, which would pass for an entry of the store.
func TestCopyDoesNotTakeLayersForAStore(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for _, key := range []string{"acme_account+key", "a.example.com"} {
			mustPut(t, &local.Memory, key, "copy")
		}
		for name, to := range map[string]cache.Cache{"layers": l, "within Encrypted": mustEncrypt(t, l, testKey(1))} {
			if n, err := cache.Copy(t.Context(), to, local); n != 0 || err == nil {
				t.Errorf("Copy to %s: %d, %v, want an error", name, n, err)
			}
		}
	})
}

// plain returns a Cache without any ability.
func (slowReader) plain() cache.Cache { return struct{ cache.Cache }{new(cache.Memory)} }

// What leads to the certificate of a group is of use while the store is down.
func TestWhatLeadsToCertificatesHasCopies(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		keys := []string{"a.example.com+group", "a.example.com+rsa+group", "a.example.com+group+cert", "a.example.com+group+rsa+cert"}
		for _, key := range keys {
			mustPut(t, l, key, "entry")
		}
		synctest.Wait()
		remote.fail(refuses)
		for _, key := range keys {
			expectValue(t, l, key, "entry")
		}
	})
}
