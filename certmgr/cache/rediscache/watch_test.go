package rediscache_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

// watchUntil makes a change, until the watch receives it. A watch that is closed
// has to be begun again: it may be on a slow machine.
func watchUntil(t *testing.T, c *rediscache.Cache, changes <-chan struct{}, change func() bool) <-chan struct{} {
	t.Helper()
	for change() {
		if _, open := <-changes; open {
			break
		}
		var err error
		if changes, err = c.Watch(t.Context(), host); err != nil {
			t.Fatal(err)
		}
	}
	return changes
}

// A watch receives what another client puts and deletes, with and without a lease,
// and nothing about other keys.
func TestWatchSeesOtherClients(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			connect := d.start(t).connect
			c, other := newCache(t, connect(t)), newCache(t, connect(t))
			changes, err := c.Watch(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			l := lock(t, other, "machine")
			for name, ctx := range map[string]context.Context{"without": t.Context(), "with": cache.Guard(t.Context(), l)} {
				changes = watchUntil(t, c, changes, func() bool {
					put(t, t.Context(), newCacheWith(t, connect(t), unused()), "of another prefix")
					put(t, ctx, other, "value "+name)
					return true
				})
				checkGet(t, c, "value "+name)
				changes = watchUntil(t, c, changes, func() bool {
					if err := other.Delete(ctx, host); err != nil {
						t.Fatal(err)
					}
					return true
				})
			}
			if err := other.Put(t.Context(), "other.example.com", nil); err != nil {
				t.Fatal(err)
			}
			select {
			case _, open := <-changes:
				if open {
					t.Error("a watch receives without a change of its entry")
				}
			default:
			}
		})
	}
}

// Watches share one connection, each ends with its own context, and the connection
// with the last one.
func TestWatchesShareAConnection(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	subscribers := func() int {
		return strings.Count(server.CLI("CLIENT", "LIST", "TYPE", "pubsub"), "id=")
	}
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	defer cancelFirst()
	defer cancelSecond()
	var watches []<-chan struct{}
	for i, ctx := range []context.Context{first, first, second, second} {
		key := host
		if i%2 == 1 {
			key = "other.example.com"
		}
		changes, err := c.Watch(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, changes)
	}
	if n := subscribers(); n != 1 {
		t.Errorf("four watches have %d connections, want 1", n)
	}
	cancelFirst()
	for _, changes := range watches[:2] {
		if _, open := <-changes; open {
			t.Error("a watch receives without a change")
		}
	}
	watchUntil(t, c, watches[2], func() bool { put(t, t.Context(), c, "value"); return true })
	cancelSecond()
	<-watches[3]
	server.Await("0", "EVAL", "return #redis.call('PUBSUB', 'CHANNELS')", "0")
	if _, err := c.Watch(t.Context(), host); err != nil {
		t.Errorf("Watch after all others have ended: %v", err)
	}
}

// When the server goes away, watches are closed, and new ones fail until it is
// back.
func TestWatchOfAServerThatGoesAway(t *testing.T) {
	for _, end := range []func(*servertest.Redis){(*servertest.Redis).Stop, (*servertest.Redis).Kill} {
		server := servertest.StartRedis(t)
		c := newCache(t, connect(t, server))
		changes, err := c.Watch(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		end(server)
		if _, open := <-changes; open {
			t.Error("a server that has ended tells of a change")
		}
		if _, err := c.Watch(t.Context(), host); err == nil {
			t.Error("Watch of a server that has ended succeeds")
		}
		server.Restart()
		if changes, err = c.Watch(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		watchUntil(t, c, changes, func() bool { put(t, t.Context(), c, "value"); return true })
	}
}

// After a failover a watch is closed, and the next one is of the new primary.
func TestWatchAcrossAFailover(t *testing.T) {
	servers := servertest.StartRedisSentinel(t)
	c := newCache(t, connectSentinel(t, servers))
	changes, err := c.Watch(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	// The old primary lives, and becomes a replica.
	servers.Failover()
	if _, open := <-changes; open {
		t.Error("a watch receives without a change")
	}
	if changes, err = c.Watch(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	watchUntil(t, c, changes, func() bool { put(t, t.Context(), c, "value"); return true })
}
