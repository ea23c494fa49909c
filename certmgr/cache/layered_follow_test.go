package cache_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// follower collects what Follow tells.
type follower struct {
	t  *testing.T
	mu sync.Mutex

	told []string
}

// follow follows until the test ends.
func follow(t *testing.T, l *cache.LayeredCache) *follower {
	t.Helper()
	f := &follower{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for news := range l.Follow(ctx) {
			f.tell(news)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

func (f *follower) tell(news cache.News) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if news.Down != nil {
		_, cause, _ := strings.Cut(news.Down.Error(), "Z: ")
		f.told = append(f.told, "down: "+cause)
	}
	if news.Copies != nil {
		f.told = append(f.told, "copies: "+news.Copies.Error())
	}
	for _, key := range slices.Sorted(slices.Values(news.Gone)) {
		f.told = append(f.told, "gone: "+key)
	}
	for _, key := range slices.Sorted(slices.Values(news.Changed)) {
		f.told = append(f.told, "changed: "+key)
	}
	if news.Up {
		f.told = append(f.told, "up")
	}
}

// take returns what was told since the last call.
func (f *follower) take() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	told := f.told
	f.told = nil
	return told
}

func (f *follower) expect(want ...string) {
	f.t.Helper()
	if told := f.take(); !slices.Equal(told, want) {
		f.t.Errorf("it was told\n%q, want\n%q", told, want)
	}
}

func TestFollowTellsWhatHasChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for _, key := range []string{"same", "newer", "gone", "unread"} {
			mustPut(t, l, key+".example.com", "old")
		}
		synctest.Wait()
		remote.fail(refuses)
		l = cache.Layered(local, batchStore{remote}) // a restart
		f := follow(t, l)
		f.expect()
		for _, key := range []string{"same", "newer", "gone"} {
			expectValue(t, l, key+".example.com", "old")
		}
		f.expect("down: connection refused")
		time.Sleep(time.Hour)
		f.expect()
		mustPut(t, &remote.Memory, "newer.example.com", "new")
		mustPut(t, &remote.Memory, "unread.example.com", "new")
		remote.Memory.Delete(t.Context(), "gone.example.com")
		remote.fail(nil)
		time.Sleep(10 * time.Second)
		f.expect("gone: gone.example.com", "changed: newer.example.com", "up")
		expectMiss(t, &local.Memory, "gone.example.com")
		expectValue(t, &local.Memory, "newer.example.com", "new")
		expectValue(t, &local.Memory, "unread.example.com", "old")
		time.Sleep(time.Hour)
		f.expect()
	})
}

// The loop may be the one that finds the store down.
func TestFollowLosesNothingWhenItFindsTheStoreDown(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "old")
		f := follow(t, l)
		synctest.Wait()
		remote.fail(refuses)
		expectValue(t, l, "a.example.com", "old") // one failure is none
		f.expect("down: connection refused")
		mustPut(t, &remote.Memory, "a.example.com", "new")
		remote.fail(nil)
		time.Sleep(10 * time.Second)
		f.expect("changed: a.example.com", "up")
	})
}

// Nobody pays the time-out while a loop follows: it asks.
func TestFollowAsksInPlaceOfReads(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "old")
		synctest.Wait()
		remote.fail(hangs)
		follow(t, l)
		expectValue(t, l, "a.example.com", "old")
		for range 100 {
			time.Sleep(time.Second)
			began := time.Now()
			expectValue(t, l, "a.example.com", "old")
			if took := time.Since(began); took != 0 {
				t.Fatalf("a read took %v", took)
			}
		}
		if n := remote.count("get"); n < 10 || n > 21 {
			t.Errorf("the store was asked %d times in 100 seconds", n)
		}
	})
}

func TestAStoreThatFlaps(t *testing.T) {
	const hosts = 1200
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for i := range hosts {
			mustPut(t, l, fmt.Sprintf("h%d.example.com", i), "old")
			synctest.Wait()
		}
		remote.fail(refuses)
		f := follow(t, l)
		for i := range hosts {
			expectValue(t, l, fmt.Sprintf("h%d.example.com", i), "old")
			mustPut(t, &remote.Memory, fmt.Sprintf("h%d.example.com", i), "new")
		}
		synctest.Wait()
		// It answers one batch at a time.
		batches := 0
		remote.fail(func(_ context.Context, op, _ string) error {
			if op == "batch" {
				if batches++; batches%2 == 1 {
					return errDown
				}
			}
			return nil
		})
		time.Sleep(time.Minute)
		told := f.take()
		changed := 0
		for _, news := range told {
			if strings.HasPrefix(news, "changed: ") {
				changed++
			}
		}
		if changed != hosts {
			t.Errorf("%d entries were told to have changed, want %d", changed, hosts)
		}
		if told[0] != "down: connection refused" || told[len(told)-1] != "up" || len(told) != hosts+2 {
			t.Errorf("it was told %q ... %q: %d news", told[0], told[len(told)-1], len(told))
		}
	})
}

// An entry whose new copy there is no room for is read once more, and told once.
func TestEntryIsToldOnceThoughItsCopyWaits(t *testing.T) {
	const hosts = 1200
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for i := range hosts {
			mustPut(t, l, fmt.Sprintf("h%d.example.com", i), "old")
			synctest.Wait()
		}
		remote.fail(refuses)
		f := follow(t, l)
		for i := range hosts {
			expectValue(t, l, fmt.Sprintf("h%d.example.com", i), "old")
			mustPut(t, &remote.Memory, fmt.Sprintf("h%d.example.com", i), "new")
		}
		synctest.Wait()
		local.fail(func(_ context.Context, op, _ string) error {
			if op == "put" {
				time.Sleep(time.Second)
			}
			return nil
		})
		remote.fail(nil)
		time.Sleep(time.Hour)
		told := map[string]int{}
		for _, news := range f.take() {
			told[news]++
		}
		for news, n := range told {
			if n != 1 {
				t.Fatalf("%q was told %d times", news, n)
			}
		}
		if len(told) != hosts+2 {
			t.Errorf("%d news, want %d", len(told), hosts+2)
		}
	})
}

// An entry that cannot be read does not keep the others from being compared.
func TestFollowGoesOnAfterADamagedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := new(store), new(store)
		encrypted := mustEncrypt(t, batchStore{remote}, testKey(1))
		l := cache.Layered(local, encrypted)
		for _, key := range []string{"a.example.com", "b.example.com"} {
			mustPut(t, l, key, "old")
		}
		synctest.Wait()
		remote.fail(refuses)
		f := follow(t, l)
		for range 2 {
			expectValue(t, l, "a.example.com", "old")
			expectValue(t, l, "b.example.com", "old")
		}
		f.expect("down: connection refused")
		mustPut(t, &remote.Memory, "a.example.com", "-----BEGIN NOSTALL ENCRYPTED ENTRY-----\n")
		remote.fail(nil)
		mustPut(t, encrypted, "b.example.com", "new")
		time.Sleep(10 * time.Second)
		f.expect("changed: b.example.com", "up")
		mustPut(t, encrypted, "a.example.com", "repaired")
		time.Sleep(2 * time.Minute)
		f.expect("changed: a.example.com")
	})
}

// Nor is the store down because of it, if it is the only one of which a copy was
// returned.
func TestFollowOutlivesADamagedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := new(store), new(store)
		encrypted := mustEncrypt(t, batchStore{remote}, testKey(1))
		l := cache.Layered(local, encrypted)
		mustPut(t, l, "bad.example.com", "old")
		synctest.Wait()
		f := follow(t, l)
		mustPut(t, &remote.Memory, "bad.example.com", "-----BEGIN NOSTALL ENCRYPTED ENTRY-----\n")
		for range 10 {
			expectValue(t, l, "bad.example.com", "old")
			time.Sleep(7 * time.Second)
		}
		f.expect()
		mustPut(t, encrypted, "bad.example.com", "repaired")
		time.Sleep(2 * time.Minute)
		f.expect("changed: bad.example.com")
	})
}

// Some stores read many entries in one step, which fails as a whole.
func TestFollowReadsOneByOneIfItMust(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for _, key := range []string{"a.example.com", "bad.example.com"} {
			mustPut(t, l, key, "old")
		}
		synctest.Wait()
		remote.fail(hangs)
		f := follow(t, l)
		for _, key := range []string{"a.example.com", "bad.example.com"} {
			expectValue(t, l, key, "old")
		}
		f.expect("down: context deadline exceeded")
		mustPut(t, &remote.Memory, "a.example.com", "new")
		remote.fail(func(_ context.Context, op, key string) error {
			if op == "batch" || key == "bad.example.com" {
				return fmt.Errorf("damaged")
			}
			return nil
		})
		time.Sleep(10 * time.Second)
		f.expect("changed: a.example.com", "up")
	})
}

// What was not told is told to the next loop.
func TestALoopThatEndsLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, l, "a.example.com", "old")
		synctest.Wait()
		remote.fail(hangs)
		expectValue(t, l, "a.example.com", "old")
		mustPut(t, &remote.Memory, "a.example.com", "new")
		remote.fail(nil)
		time.Sleep(10 * time.Second)
		for news := range l.Follow(t.Context()) {
			if len(news.Changed) > 0 {
				break
			}
		}
		f := follow(t, l)
		synctest.Wait()
		follow(t, l) // which waits
		time.Sleep(10 * time.Second)
		f.expect("changed: a.example.com")
	})
}

func TestAnEmptyStoreIsDownUntilItIsFilled(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		mustPut(t, &local.Memory, "acme_account+key", "key")
		mustPut(t, &local.Memory, "a.example.com", "copy")
		f := follow(t, l)
		expectValue(t, l, "a.example.com", "copy")
		time.Sleep(time.Minute)
		expectValue(t, l, "a.example.com", "copy")
		if told := f.take(); len(told) != 1 || !strings.Contains(told[0], "cache.Copy") {
			t.Errorf("it was told %q", told)
		}
		if _, err := cache.Copy(t.Context(), remote, local); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		f.expect("up")
	})
}
