package rediscache_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
	"github.com/nostall/nostall/internal/servertest"
)

// A client may read from replicas, which lag. The cache does not: an entry that
// seems to be missing is ordered again.
func TestReadsAreFromThePrimary(t *testing.T) {
	servers := servertest.StartRedisSentinel(t)
	client := closing(t, redis.NewFailoverClusterClient(&redis.FailoverOptions{
		MasterName:    servers.Name,
		SentinelAddrs: []string{servers.Sentinel.Addr},
		Password:      servers.Primary.Password,
		RouteRandomly: true,
	}))
	c := newCache(t, client)
	// From here on the replica gets nothing.
	servers.Replica.CLI("CONFIG", "SET", "masterauth", "wrong")
	servers.Primary.CLI("CLIENT", "KILL", "TYPE", "replica")
	servers.Replica.Await("master_link_status:down", "INFO", "replication")
	put(t, t.Context(), c, "value")

	lags := false
	for range 1000 {
		if err := client.Get(t.Context(), "{certmgr}:entry:"+host).Err(); errors.Is(err, redis.Nil) {
			lags = true
			break
		}
	}
	if !lags {
		t.Fatal("the client does not read from the replica, so this shows nothing")
	}
	for range 100 {
		checkGet(t, c, "value")
		if got, err := c.GetMany(t.Context(), []string{host}); err != nil || len(got) != 1 {
			t.Fatalf("GetMany returns %q, %v", got, err)
		}
		if t.Failed() {
			return
		}
	}
	keys := 0
	for _, err := range c.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys++
	}
	if keys != 1 {
		t.Errorf("%d keys are listed, want 1", keys)
	}
}

// Clients may speak the older protocol, and keep replies in their memory.
func TestSettingsOfClients(t *testing.T) {
	server := servertest.StartRedis(t)
	older, caching := options(server), options(server)
	older.Protocol = 2
	caching.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
	for name, o := range map[string]*redis.Options{"RESP2": older, "client-side cache": caching} {
		t.Run(name, func(t *testing.T) {
			client := closing(t, redis.NewClient(o))
			cachetest.Run(t, func(t *testing.T) cache.Cache { return newCacheWith(t, client, unused()) })
			c := newCacheWith(t, client, unused())
			if err := useAll(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}
