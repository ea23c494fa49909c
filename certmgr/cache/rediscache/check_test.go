package rediscache_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

// Servers as they are by default are fine, in each deployment.
func TestCheckOfGoodServers(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			if err := newCache(t, d.start(t).connect(t)).Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// An eviction policy is reported with what to set, and a replica as one.
func TestCheckSaysWhatToSet(t *testing.T) {
	tests := []struct {
		name     string
		settings []string
		want     string
	}{
		{"all keys may be evicted", []string{"--maxmemory-policy", "allkeys-lru"}, "set maxmemory-policy noeviction"},
		{"locks may be evicted", []string{"--maxmemory-policy", "volatile-ttl"}, "set maxmemory-policy noeviction"},
		{"a replica", []string{"--replicaof", "127.0.0.1 1"}, "connect to the primary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache(t, connect(t, servertest.StartRedis(t, tt.settings...)))
			if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check returns %v, want it to say %q", err, tt.want)
			}
		})
	}
}

// One server of a cluster that evicts is found.
func TestCheckOfEachPrimary(t *testing.T) {
	servers := servertest.StartRedisCluster(t)
	servers[2].CLI("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
	client := closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[0].Addr}, Password: servers[0].Password}))
	err := newCache(t, client).Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "port "+servers[2].Port()) {
		t.Errorf("Check returns %v, want it to name the server at port %s", err, servers[2].Port())
	}
}

// A server that does not tell is no error, and one that is not there is.
func TestCheckWithoutAnAnswer(t *testing.T) {
	silent := servertest.StartRedis(t, "--rename-command", "INFO", "")
	if err := newCache(t, connect(t, silent)).Check(t.Context()); err != nil {
		t.Errorf("Check of a server without INFO: %v", err)
	}
	silent.Stop()
	if err := newCache(t, connect(t, silent)).Check(t.Context()); err == nil {
		t.Error("Check of a server that has stopped returns nil")
	}
	restricted := servertest.StartRedis(t)
	restricted.CLI("ACL", "SETUSER", "somebody", "on", ">secret", "~*", "&*", "+@all", "-info")
	o := options(restricted)
	o.Username, o.Password = "somebody", "secret"
	if err := newCache(t, closing(t, redis.NewClient(o))).Check(t.Context()); err != nil {
		t.Errorf("Check by a user who may not use INFO: %v", err)
	}
}

// Clients with which entries could be missed, or calls never end, are refused.
func TestNewRefuses(t *testing.T) {
	pipeliner, err := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}).AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	unlimited := &redis.Options{Addr: "127.0.0.1:1", ReadTimeout: -1}
	clients := map[string]redis.UniversalClient{
		"nil":                             nil,
		"a ring":                          closing(t, redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})),
		"a pipeliner":                     closing(t, pipeliner),
		"a client that waits for ever":    closing(t, redis.NewClient(unlimited)),
		"a client that writes for ever":   closing(t, redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", WriteTimeout: -2})),
		"a cluster that waits for ever":   closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadTimeout: -1})),
		"sentinels that wait for ever":    closing(t, redis.NewFailoverClient(&redis.FailoverOptions{SentinelAddrs: []string{"127.0.0.1:1"}, ReadTimeout: -2})),
		"replicas that are waited for so": closing(t, redis.NewFailoverClusterClient(&redis.FailoverOptions{SentinelAddrs: []string{"127.0.0.1:1"}, ReadTimeout: -1})),
	}
	for name, client := range clients {
		if _, err := rediscache.New(client, rediscache.Options{}); err == nil {
			t.Errorf("New with %s: no error", name)
		}
	}
	client := closing(t, redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}))
	for _, prefix := range []string{"{a}", "a}", "a b", "a*", "a?", "[a]", `a\`, "ä", "\n", strings.Repeat("a", 101)} {
		if _, err := rediscache.New(client, rediscache.Options{Prefix: prefix}); err == nil {
			t.Errorf("New with the prefix %q: no error", prefix)
		}
	}
	for _, prefix := range []string{"", "certmgr/prod:eu-1_A.b", strings.Repeat("a", 100)} {
		if _, err := rediscache.New(client, rediscache.Options{Prefix: prefix}); err != nil {
			t.Errorf("New with the prefix %q: %v", prefix, err)
		}
	}
}
