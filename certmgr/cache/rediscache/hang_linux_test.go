package rediscache_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

// Each call ends with its context while the server hangs, whether the context has a
// deadline or is cancelled, and whatever the client makes of contexts. It is never
// a miss, a lost lease or a lock that is held. Afterwards all goes on.
func TestCallsEndWithTheirContext(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		name := "without ContextTimeoutEnabled"
		if enabled {
			name = "with ContextTimeoutEnabled"
		}
		t.Run(name, func(t *testing.T) {
			server := servertest.StartRedis(t)
			o := options(server)
			o.ContextTimeoutEnabled = enabled
			o.ReadTimeout = 10 * time.Minute // or the client itself would end the call
			o.WriteTimeout = o.ReadTimeout
			client := closing(t, redis.NewClient(o))
			c := newCache(t, client)
			l := lock(t, c, "machine")
			put(t, t.Context(), c, "value")
			process := server.Process()
			process.Pause()
			checkCallsEnd(t, c, l)
			process.Continue()
			// The server does what it was asked, after all: the lock may be gone.
			again := newCache(t, connect(t, server))
			put(t, t.Context(), again, "afterwards")
			checkGet(t, again, "afterwards")
		})
	}
}

func checkCallsEnd(t *testing.T, c *rediscache.Cache, l cache.Lease) {
	t.Helper()
	calls := map[string]func(ctx context.Context) error{
		"Get":        func(ctx context.Context) error { _, err := c.Get(ctx, host); return err },
		"GetMany":    func(ctx context.Context) error { _, err := c.GetMany(ctx, []string{host}); return err },
		"Put":        func(ctx context.Context) error { return c.Put(ctx, host, []byte("secret")) },
		"Delete":     func(ctx context.Context) error { return c.Delete(ctx, "other.example.com") },
		"guarded":    func(ctx context.Context) error { return c.Put(cache.Guard(ctx, l), host, nil) },
		"Lock":       func(ctx context.Context) error { _, err := c.Lock(ctx, "name", "machine", long); return err },
		"Extend":     func(ctx context.Context) error { return l.Extend(ctx, long) },
		"Unlock":     func(ctx context.Context) error { return l.Unlock(ctx) },
		"Watch":      func(ctx context.Context) error { _, err := c.Watch(ctx, host); return err },
		"Check":      c.Check,
		"Keys":       func(ctx context.Context) error { return lastError(ctx, c) },
		"a new Lock": func(ctx context.Context) error { _, err := c.Lock(ctx, "name 2", "machine", long); return err },
	}
	for what, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		checkContextError(t, what, call(ctx), context.DeadlineExceeded)
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		checkContextError(t, what, call(ctx), context.Canceled)
		cancel()
	}
}

func checkContextError(t *testing.T, what string, err, want error) {
	t.Helper()
	_, held := errors.AsType[*cache.HeldError](err)
	for _, wrong := range []error{cache.ErrMiss, cache.ErrLost} {
		held = held || errors.Is(err, wrong)
	}
	// The client's own deadline may pass a moment before that of the context.
	ended := errors.Is(err, want) || want == context.DeadlineExceeded && isTimeout(err)
	if held || !ended {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

func lastError(ctx context.Context, c *rediscache.Cache) error {
	var last error
	for _, err := range c.Keys(ctx) {
		last = err
	}
	return last
}

// A watch of a server that hangs is closed, although its connection is open.
func TestWatchOfAServerThatHangs(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	changes, err := c.Watch(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	server.Process().Pause()
	if _, open := <-changes; open {
		t.Error("a change is told of by a server that hangs")
	}
	server.Process().Continue()
	watchUntil(t, c, changes, func() bool {
		put(t, t.Context(), c, "value")
		return true
	})
}

// What is waited for under one context ends when the server hangs, and what others
// wait for does not begin anew: all share one attempt.
func TestWatchesBeginTogether(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	server.Process().Pause()
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	for i := range 10 {
		go func() {
			own := ctx
			if i == 0 {
				own = t.Context()
			}
			_, err := c.Watch(own, host)
			results <- err
		}()
	}
	cancel()
	var errs []error
	for range 9 {
		errs = append(errs, <-results)
	}
	if slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, context.Canceled) }) {
		t.Errorf("watches whose context was cancelled: %q", errs)
	}
	server.Process().Continue()
	if err := <-results; err != nil && !isTimeout(err) {
		t.Errorf("the watch whose context goes on: %v", err)
	}
}
