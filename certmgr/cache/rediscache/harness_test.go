package rediscache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

// go-redis writes a line for each connection that a test has it lose.
func TestMain(m *testing.M) {
	logging.Disable()
	os.Exit(m.Run())
}

const (
	host = "www.example.com"

	// long is a lease that does not end within a test.
	long = time.Hour
)

// A deployment is a way to run Redis.
type deployment struct {
	name  string
	start func(t *testing.T) running
}

// running is a deployment that has been started.
type running struct {
	servers []*servertest.Redis                      // without replicas and sentinels
	connect func(t *testing.T) redis.UniversalClient // connects another client
}

// deployments is never changed.
var deployments = []deployment{
	{"Single", func(t *testing.T) running {
		server := servertest.StartRedis(t)
		return running{[]*servertest.Redis{server}, func(t *testing.T) redis.UniversalClient { return connect(t, server) }}
	}},
	{"Sentinel", func(t *testing.T) running {
		servers := servertest.StartRedisSentinel(t)
		return running{[]*servertest.Redis{servers.Primary}, func(t *testing.T) redis.UniversalClient { return connectSentinel(t, servers) }}
	}},
	{"Cluster", func(t *testing.T) running {
		servers := servertest.StartRedisCluster(t)
		o := &redis.ClusterOptions{Password: servers[0].Password, ContextTimeoutEnabled: true}
		for _, server := range servers {
			o.Addrs = append(o.Addrs, server.Addr)
		}
		return running{servers, func(t *testing.T) redis.UniversalClient { return closing(t, redis.NewClusterClient(o)) }}
	}},
}

// options are those of a client of a server.
func options(server *servertest.Redis) *redis.Options {
	return &redis.Options{
		Network:               server.Network,
		Addr:                  server.Addr,
		Password:              server.Password,
		ContextTimeoutEnabled: true,
	}
}

func connect(t *testing.T, server *servertest.Redis) redis.UniversalClient {
	return closing(t, redis.NewClient(options(server)))
}

func connectSentinel(t *testing.T, servers *servertest.RedisSentinel) redis.UniversalClient {
	return closing(t, redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            servers.Name,
		SentinelAddrs:         []string{servers.Sentinel.Addr},
		Password:              servers.Primary.Password,
		ContextTimeoutEnabled: true,
	}))
}

func closing(t *testing.T, client redis.UniversalClient) redis.UniversalClient {
	t.Cleanup(func() { client.Close() })
	return client
}

// prefixes counts the caches of all tests.
var prefixes atomic.Int64

// unused returns options by which caches share nothing with others.
func unused() rediscache.Options {
	return rediscache.Options{Prefix: fmt.Sprintf("test-%d", prefixes.Add(1))}
}

// newCache returns the cache of a client with the default options.
func newCache(t *testing.T, client redis.UniversalClient) *rediscache.Cache {
	t.Helper()
	return newCacheWith(t, client, rediscache.Options{})
}

func newCacheWith(t *testing.T, client redis.UniversalClient, o rediscache.Options) *rediscache.Cache {
	t.Helper()
	c, err := rediscache.New(client, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, ctx context.Context, c cache.Cache, value string) {
	t.Helper()
	if err := c.Put(ctx, host, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func checkGet(t *testing.T, c cache.Cache, want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), host); err != nil || string(got) != want {
		t.Errorf("Get returns %q, %v, want %q", got, err, want)
	}
}

// lock takes a lock that must be free.
func lock(t *testing.T, c *rediscache.Cache, owner string) cache.Lease {
	t.Helper()
	l, err := c.Lock(t.Context(), host, owner, long)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checkHeld requires the lock to be held by an owner.
func checkHeld(t *testing.T, c *rediscache.Cache, owner string) {
	t.Helper()
	_, err := c.Lock(t.Context(), host, "somebody else", long)
	held, ok := errors.AsType[*cache.HeldError](err)
	if !ok || held.Owner != owner || held.Name != host || held.Remaining <= 0 || held.Remaining > long {
		t.Errorf("Lock: %v, want it held by %q", err, owner)
	}
}

// checkLost requires a lease that has ended: it can neither write nor go on.
func checkLost(t *testing.T, c *rediscache.Cache, l cache.Lease) {
	t.Helper()
	guarded := cache.Guard(t.Context(), l)
	for what, err := range map[string]error{
		"Put":    c.Put(guarded, host, []byte("of the lost lease")),
		"Delete": c.Delete(guarded, host),
		"Extend": l.Extend(t.Context(), long),
		"Unlock": l.Unlock(t.Context()),
	} {
		if !errors.Is(err, cache.ErrLost) {
			t.Errorf("%s of a lost lease: %v, want cache.ErrLost", what, err)
		}
	}
}
