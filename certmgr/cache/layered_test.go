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
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

// store is a Cache that fails as it is told, and counts what it is asked.
type store struct {
	cache.Memory

	mu    sync.Mutex
	fault func(ctx context.Context, op, key string) error
	asked map[string]int    // calls by "get", "put", "delete"
	ctxs  []context.Context // of the changes
}

// fail makes the store answer with the result of f, unless that is nil.
func (s *store) fail(f func(ctx context.Context, op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *store) ask(ctx context.Context, op, key string) error {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = make(map[string]int)
	}
	s.asked[op]++
	if op == "put" || op == "delete" {
		s.ctxs = append(s.ctxs, ctx)
	}
	f := s.fault
	s.mu.Unlock()
	if f != nil {
		return f(ctx, op, key)
	}
	return nil
}

func (s *store) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[op]
}

func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.ask(ctx, "get", key); err != nil {
		return nil, err
	}
	return s.Memory.Get(ctx, key)
}

func (s *store) Put(ctx context.Context, key string, data []byte) error {
	if err := s.ask(ctx, "put", key); err != nil {
		return err
	}
	return s.Memory.Put(ctx, key, data)
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := s.ask(ctx, "delete", key); err != nil {
		return err
	}
	return s.Memory.Delete(ctx, key)
}

// batchStore is a store that reads many entries in one request.
type batchStore struct{ *store }

func (s batchStore) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	if err := s.ask(ctx, "batch", ""); err != nil {
		return nil, err
	}
	return cache.GetMany(ctx, &s.Memory, keys)
}

var errDown = errors.New("connection refused")

// refuses and hangs are how a store that is down behaves.
func refuses(context.Context, string, string) error { return errDown }

func hangs(ctx context.Context, _, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// inBubble runs f with two stores and their layers. What is in both has been
// copied.
func inBubble(t *testing.T, f func(t *testing.T, local, remote *store, l *cache.LayeredCache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		local, remote := new(store), new(store)
		f(t, local, remote, cache.Layered(local, batchStore{remote}))
	})
}

// expectMiss expects the key to have no entry.
func expectMiss(t *testing.T, c cache.Cache, key string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("%s is %q, %v, want a miss", key, got, err)
	}
}

func TestLayeredConforms(t *testing.T) {
	cachetest.Run(t, func(*testing.T) cache.Cache { return cache.Layered(new(cache.Memory), new(cache.Memory)) })
}

func TestLayeredConformsOnBothSidesOfEncryption(t *testing.T) {
	// layers returns layers whose copies are written before their directory is
	// removed.
	layers := func(t *testing.T, remote cache.Cache) cache.Cache {
		l := cache.Layered(cache.Dir(t.TempDir()), remote)
		t.Cleanup(func() {
			if err := l.Flush(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return l
	}
	cachetest.Run(t, func(t *testing.T) cache.Cache {
		return layers(t, mustEncrypt(t, new(cache.Memory), testKey(1)))
	})
	cachetest.Run(t, func(t *testing.T) cache.Cache {
		return mustEncrypt(t, layers(t, new(cache.Memory)), testKey(1))
	})
}

// Each machine has copies of its own, and they share the store's locks. A local
// cache with locks refuses the store's leases.
func TestLayeredLocks(t *testing.T) {
	cachetest.RunLockerInBubble(t, func(*testing.T) *cachetest.Store {
		remote := new(cache.Memory)
		return &cachetest.Store{Open: func(*testing.T) cache.Cache { return cache.Layered(new(cache.Memory), remote) }}
	})
}

func TestCopiesAreServedWhileTheStoreIsDown(t *testing.T) {
	for name, fault := range map[string]func(context.Context, string, string) error{"refuses": refuses, "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
				mustPut(t, l, "a.example.com", "put")
				mustPut(t, &remote.Memory, "b.example.com+rsa", "read")
				expectValue(t, l, "b.example.com+rsa", "read")
				mustPut(t, l, "acme_account+key", "account")
				synctest.Wait()
				remote.fail(fault)
				l = cache.Layered(local, remote) // a restart
				for key, want := range map[string]string{"a.example.com": "put", "b.example.com+rsa": "read", "acme_account+key": "account"} {
					expectValue(t, l, key, want)
				}
				if _, err := l.Get(t.Context(), "c.example.com"); err == nil || errors.Is(err, cache.ErrMiss) {
					t.Errorf("an entry that has no copy: %v, want the store's error", err)
				}
			})
		})
	}
}

// Whoever comes while the store hangs must not wait for it, or 10,000 hosts would
// take hours.
func TestADownStoreIsAskedOnceInAWhile(t *testing.T) {
	const hosts = 10_000
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for i := range hosts {
			mustPut(t, &local.Memory, fmt.Sprintf("h%d.example.com", i), "copy")
		}
		remote.fail(hangs)
		began := time.Now()
		for i := range hosts {
			expectValue(t, l, fmt.Sprintf("h%d.example.com", i), "copy")
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the start took %v, want the time-out of one read, 2s", took)
		}
		time.Sleep(time.Minute)
		var group sync.WaitGroup
		for i := range 1000 {
			group.Go(func() { expectValue(t, l, fmt.Sprintf("h%d.example.com", i), "copy") })
		}
		group.Wait()
		if n := remote.count("get"); n != 2 {
			t.Errorf("the store was asked %d times, want once, and one time more after a minute", n)
		}
	})
}

// The Manager gives a call 5 seconds.
func TestAHangingStoreLeavesTimeForTheCopy(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "copy")
		synctest.Wait()
		remote.fail(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if got, err := l.Get(ctx, "a.example.com"); string(got) != "copy" {
			t.Errorf("Get: %q, %v", got, err)
		}
	})
}

func TestADamagedEntryDoesNotStopTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "bad.example.com", "copy")
		mustPut(t, l, "good.example.com", "old")
		synctest.Wait()
		mustPut(t, &remote.Memory, "good.example.com", "new")
		remote.fail(func(_ context.Context, _, key string) error {
			if key == "bad.example.com" {
				return errors.New("damaged")
			}
			return nil
		})
		for range 10 {
			expectValue(t, l, "bad.example.com", "copy")
			expectValue(t, l, "good.example.com", "new")
		}
	})
}

// Nor if nothing else is read.
func TestReadsOfADamagedEntryDoNotStopTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "good.example.com", "old")
		synctest.Wait()
		mustPut(t, &remote.Memory, "good.example.com", "new")
		remote.fail(func(_ context.Context, _, key string) error {
			if key == "bad.example.com" {
				return errors.New("damaged")
			}
			return nil
		})
		for range 10 {
			if _, err := l.Get(t.Context(), "bad.example.com"); err == nil || errors.Is(err, cache.ErrMiss) {
				t.Errorf("the damaged entry: %v", err)
			}
		}
		expectValue(t, l, "good.example.com", "new")
		expectMiss(t, l, "new.example.com")
	})
}

func TestWhatTheStoreLacksIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "revoked elsewhere")
		synctest.Wait()
		remote.Memory.Delete(t.Context(), "a.example.com")
		expectMiss(t, l, "a.example.com")
		synctest.Wait()
		expectMiss(t, &local.Memory, "a.example.com")
		remote.fail(refuses)
		if got, err := l.Get(t.Context(), "a.example.com"); !errors.Is(err, errDown) {
			t.Errorf("Get: %q, %v, want the store's error", got, err)
		}
	})
}

// Even if the copy cannot be deleted.
func TestWhatIsGoneIsNotServedFromADiskThatCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "revoked elsewhere")
		synctest.Wait()
		readOnly(local)
		remote.Memory.Delete(t.Context(), "a.example.com")
		expectMiss(t, l, "a.example.com")
		synctest.Wait()
		remote.fail(refuses)
		if got, err := l.Get(t.Context(), "a.example.com"); !errors.Is(err, errDown) {
			t.Errorf("Get: %q, %v, want the store's error", got, err)
		}
		remote.fail(nil)
		local.fail(nil)
		time.Sleep(time.Minute)
		expectMiss(t, l, "a.example.com")
		synctest.Wait()
		expectMiss(t, &local.Memory, "a.example.com")
	})
}

// A store that was emptied, or is a new one, must not lead to an order for each
// host.
func TestAnEmptyStoreIsNotBelieved(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for _, key := range []string{"acme_account+key", "a.example.com", "b.example.com"} {
			mustPut(t, &local.Memory, key, "copy")
		}
		expectValue(t, l, "a.example.com", "copy")
		got, err := l.GetMany(t.Context(), []string{"a.example.com", "b.example.com"})
		if len(got) != 2 || err != nil {
			t.Errorf("GetMany: %q, %v", got, err)
		}
		synctest.Wait()
		expectValue(t, &local.Memory, "a.example.com", "copy")
		if _, err := l.Get(t.Context(), "c.example.com"); err == nil || errors.Is(err, cache.ErrMiss) {
			t.Errorf("an entry without a copy: %v, want an error", err)
		}
		if n, err := cache.Copy(t.Context(), remote, local); n != 3 || err != nil {
			t.Errorf("Copy: %d, %v", n, err)
		}
		time.Sleep(time.Minute)
		expectValue(t, l, "a.example.com", "copy")
		expectMiss(t, l, "c.example.com")
	})
}

func TestRecordsHaveNoCopies(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		keys := []string{"a.example.com+failure", "a.example.com+order", "a.example.com+rsa+order", "token+http-01", "a.example.com+token",
			"certmgr+visits", "acme_account+key+next", "acme_ca+0123456789abcdef+orders", "a.example.com+group+failure"}
		for _, key := range keys {
			mustPut(t, l, key, "record")
			expectValue(t, l, key, "record")
		}
		synctest.Wait()
		for _, key := range keys {
			expectMiss(t, &local.Memory, key)
		}
		remote.fail(refuses)
		for _, key := range keys {
			if _, err := l.Get(t.Context(), key); !errors.Is(err, errDown) {
				t.Errorf("%s: %v, want the store's error", key, err)
			}
		}
	})
}

func TestTheLeaseIsTheStores(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		locker, ok := cache.LockerOf(l)
		if !ok {
			t.Fatal("the store's locks are not found")
		}
		lease, err := locker.Lock(t.Context(), "a.example.com", "test", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ctx := cache.Guard(t.Context(), lease)
		if err := l.Put(ctx, "a.example.com", []byte("value")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := l.Delete(ctx, "a.example.com"); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]*store{"local": local, "remote": remote} {
			if len(s.ctxs) != 2 {
				t.Errorf("%s has %d changes, want 2", name, len(s.ctxs))
			}
			for _, ctx := range s.ctxs {
				if guarded := cache.Guarded(ctx) != nil; guarded != (s == remote) {
					t.Errorf("%s: the context has a lease: %t", name, guarded)
				}
			}
		}
	})
}

func TestManyAreReadInOneRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, &local.Memory, "gone.example.com", "copy")
		mustPut(t, &local.Memory, "old.example.com", "copy")
		var keys []string
		for i := range 500 {
			keys = append(keys, fmt.Sprintf("h%d.example.com", i))
			mustPut(t, &remote.Memory, keys[i], "value")
		}
		keys = append(keys, "gone.example.com", "old.example.com", "never.example.com")
		mustPut(t, &remote.Memory, "old.example.com", "new")
		got, err := l.GetMany(t.Context(), keys)
		if len(got) != 501 || string(got["old.example.com"]) != "new" || err != nil {
			t.Errorf("GetMany: %d values, %v", len(got), err)
		}
		if n := remote.count("batch"); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		synctest.Wait()
		expectMiss(t, &local.Memory, "gone.example.com")
		expectValue(t, &local.Memory, "old.example.com", "new")

		remote.fail(refuses)
		got, err = l.GetMany(t.Context(), keys[:500])
		if len(got) != 500 || err != nil {
			t.Errorf("GetMany of the copies: %d values, %v", len(got), err)
		}
		got, err = l.GetMany(t.Context(), keys)
		if len(got) != 501 || !errors.Is(err, errDown) {
			t.Errorf("GetMany of copies that are not complete: %d values, %v", len(got), err)
		}
	})
}
