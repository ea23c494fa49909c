package cache_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// A lock is of no use to whoever decides by a copy, and a CA asks for an answer once.
func TestReadsThatWaitForTheStore(t *testing.T) {
	guarded := func(ctx context.Context) context.Context {
		lease, err := new(cache.Memory).Lock(ctx, "a", "here", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return cache.Guard(ctx, lease)
	}
	plain := func(ctx context.Context) context.Context { return ctx }
	for _, test := range []struct {
		key    string
		in     func(context.Context) context.Context
		isCopy bool
	}{
		{"a.example.com", plain, true},
		{"a.example.com", guarded, false},
		{"acme_account+key", guarded, false},
		{"a.example.com+token", plain, false},
		{"token+http-01", plain, false},
	} {
		inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
			mustPut(t, &local.Memory, test.key, "copy")
			mustPut(t, &remote.Memory, test.key, "value")
			for _, fault := range []string{"slow", "down", "back"} {
				remote.fail(func(ctx context.Context, _, _ string) error {
					switch fault {
					case "slow":
						time.Sleep(3 * time.Second)
					case "down":
						return errDown
					}
					return ctx.Err()
				})
				want := map[string]string{"slow": "value", "down": "", "back": "value"}[fault]
				if test.isCopy {
					want = "copy"
				}
				if data, err := l.Get(test.in(t.Context()), test.key); string(data) != want {
					t.Errorf("%s, guarded %t, store %s: %q, %v; want %q", test.key, cache.Guarded(test.in(t.Context())) != nil, fault, data, err, want)
				}
			}
		})
	}
}

// A read that finds the store emptied is enough: what has no copy is not missing either,
// or it would be ordered.
func TestAfterAReadOfAnEmptyStoreNothingIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, local, _ *store, l *cache.LayeredCache) {
		for _, key := range []string{"acme_account+key", "a.example.com"} {
			mustPut(t, &local.Memory, key, "copy")
		}
		expectValue(t, l, "a.example.com", "copy")
		for _, key := range []string{"c.example.com", "c.example.com+failure"} {
			if _, err := l.Get(t.Context(), key); err == nil || errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: %v, want an error", key, err)
			}
		}
	})
}

// Nor if the store answers, but may be another one than that of the copies.
func TestUnderALeaseThereIsNoCopyOfWhatTheStoreLacks(t *testing.T) {
	inBubble(t, func(t *testing.T, local, remote *store, l *cache.LayeredCache) {
		for _, key := range []string{"acme_account+key", "a.example.com"} {
			mustPut(t, &local.Memory, key, "copy")
		}
		lease, err := remote.Lock(t.Context(), "a.example.com", "test", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ctx := cache.Guard(t.Context(), lease)
		if data, err := l.Get(ctx, "a.example.com"); err == nil || errors.Is(err, cache.ErrMiss) {
			t.Errorf("Get: %q, %v, want an error", data, err)
		}
		if data, err := l.GetMany(ctx, []string{"a.example.com"}); err == nil || len(data) > 0 {
			t.Errorf("GetMany: %q, %v, want an error", data, err)
		}
		expectValue(t, l, "a.example.com", "copy")
	})
}
