package rediscache_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

const secret = "secret"

// What the server refuses is an error that says what to do, and never a miss.
func TestErrorsSayWhatToDo(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T) redis.UniversalClient
		want  string
		works string // what is no error
	}{
		{"no password", func(t *testing.T) redis.UniversalClient {
			o := options(servertest.StartRedis(t))
			o.Password = ""
			return redis.NewClient(o)
		}, "set Username and Password", ""},
		{"a wrong password", func(t *testing.T) redis.UniversalClient {
			o := options(servertest.StartRedis(t))
			o.Password = "wrong"
			return redis.NewClient(o)
		}, "set Username and Password", ""},
		{"a user who may not", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t)
			server.CLI("ACL", "SETUSER", "reader", "on", ">"+server.Password, "~*", "+@read", "+@connection")
			o := options(server)
			o.Username = "reader"
			return redis.NewClient(o)
		}, "ACL SETUSER", ""},
		{"a user who may not publish", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t)
			server.CLI("ACL", "SETUSER", "writer", "on", ">"+server.Password, "~*", "+@all")
			o := options(server)
			o.Username = "writer"
			return redis.NewClient(o)
		}, "ACL SETUSER", "Get, Lock"},
		{"a replica", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t, "--replicaof", "127.0.0.1 1")
			return redis.NewClient(options(server))
		}, "connect to the primary", "Get"},
		{"a replica that serves nothing stale", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t)
			server.CLI("CONFIG", "SET", "replica-serve-stale-data", "no")
			server.CLI("REPLICAOF", "127.0.0.1", "1")
			return redis.NewClient(options(server))
		}, "see to the primary", ""},
		{"a server of a cluster", func(t *testing.T) redis.UniversalClient {
			servers := servertest.StartRedisCluster(t)
			for _, server := range servers { // two of three do not have the slot
				if reply := server.CLI("GET", "{certmgr}:entry:"+host); strings.HasPrefix(reply, "MOVED") {
					return redis.NewClient(options(server))
				}
			}
			t.Fatal("every server has the slot")
			return nil
		}, "redis.NewClusterClient", ""},
		{"a cluster without slots", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedisCluster(t)[0]
			server.CLI("CLUSTER", "FLUSHSLOTS")
			server.Await("cluster_state:fail", "CLUSTER", "INFO")
			return redis.NewClient(options(server))
		}, "CLUSTER INFO", ""},
		{"no memory", func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(options(servertest.StartRedis(t, "--maxmemory", "1")))
		}, "maxmemory", "Get"},
		{"no replica in step", func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(options(servertest.StartRedis(t, "--min-replicas-to-write", "1")))
		}, "see to the replicas", "Get"},
		{"another type", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t)
			server.CLI("LPUSH", "{certmgr}:lock:"+host, "value")
			server.CLI("LPUSH", "{certmgr}:entry:"+host, "value")
			return redis.NewClient(options(server))
		}, "another Options.Prefix", "Put"},
		{"no scripts", func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(options(servertest.StartRedis(t, "--rename-command", "EVALSHA", "")))
		}, "README", ""},
		{"no server", func(t *testing.T) redis.UniversalClient {
			server := servertest.StartRedis(t)
			server.Stop()
			return redis.NewClient(options(server))
		}, "does the server run", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache(t, closing(t, tt.start(t)))
			_, err := c.Get(t.Context(), host)
			if !strings.Contains(tt.works, "Get") || !errors.Is(err, cache.ErrMiss) {
				checkError(t, err, tt.want)
			}
			if err := c.Put(t.Context(), host, []byte(secret)); !strings.Contains(tt.works, "Put") || err != nil {
				checkError(t, err, tt.want)
			}
			if _, err := c.Lock(t.Context(), host, "machine", long); !strings.Contains(tt.works, "Lock") || err != nil {
				checkError(t, err, tt.want)
			}
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want it to say %q", err, want)
		return
	}
	for _, part := range []string{secret, "\n"} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("the error has %q in it: %v", part, err)
		}
	}
	if errors.Is(err, cache.ErrMiss) || errors.Is(err, redis.Nil) {
		t.Errorf("the error is a miss: %v", err)
	}
}

// A server quotes the beginning of a call that it does not know, and so of a value
// whose key is short.
func TestErrorsHaveNoValues(t *testing.T) {
	for _, command := range []string{"EVALSHA", "EVAL"} {
		server := servertest.StartRedis(t, "--rename-command", command, "")
		c := newCache(t, connect(t, server))
		checkError(t, c.Put(t.Context(), "a", []byte(secret)), "its README lists them")
	}
}

// A user with no more than the README asks for can do all.
func TestREADMEListsWhatAUserMustBeAllowed(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^ +ACL SETUSER certmgr on >SECRET (.*)$`).FindSubmatch(readme)
	if m == nil {
		t.Fatal("README.md has no line that begins with ACL SETUSER certmgr on >SECRET")
	}
	server := servertest.StartRedis(t)
	allowed := append([]string{"ACL", "SETUSER", "certmgr", "on", ">" + server.Password}, strings.Fields(string(m[1]))...)
	if got := server.CLI(allowed...); got != "OK" {
		t.Fatal(got)
	}
	o := options(server)
	o.Username = "certmgr"
	checkAllowed(t, redis.NewClient(o), server)
	other := newCacheWith(t, closing(t, redis.NewClient(o)), rediscache.Options{Prefix: "other"})
	checkError(t, other.Put(t.Context(), host, nil), "ACL SETUSER")
}

// In a cluster a user needs a few commands more.
func TestREADMEListsWhatAUserOfAClusterMustBeAllowed(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)ACL SETUSER certmgr on >SECRET ([^\n]*)\n\nand `([^`]*)` in a cluster").FindSubmatch(readme)
	if m == nil {
		t.Fatal("README.md does not say what a user of a cluster must be allowed")
	}
	servers := servertest.StartRedisCluster(t)
	o := &redis.ClusterOptions{Username: "certmgr"}
	for _, server := range servers {
		allowed := append([]string{"ACL", "SETUSER", "certmgr", "on", ">" + server.Password}, strings.Fields(string(m[1])+" "+string(m[2]))...)
		if got := server.CLI(allowed...); got != "OK" {
			t.Fatal(got)
		}
		o.Addrs, o.Password = append(o.Addrs, server.Addr), server.Password
	}
	checkAllowed(t, redis.NewClusterClient(o), servers...)
}

// checkAllowed requires that servers refuse nothing to a client.
func checkAllowed(t *testing.T, client redis.UniversalClient, servers ...*servertest.Redis) {
	t.Helper()
	if err := useAll(t.Context(), newCache(t, closing(t, client))); err != nil {
		t.Error(err)
	}
	for _, server := range servers {
		if log := server.CLI("ACL", "LOG"); log != "" {
			t.Errorf("the server has refused something:\n%s", log)
		}
	}
}

// useAll calls every method.
func useAll(ctx context.Context, c *rediscache.Cache) error {
	errs := []error{c.Check(ctx)}
	changes, err := c.Watch(ctx, host)
	errs = append(errs, err)
	l, err := c.Lock(ctx, host, "machine", long)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, c.Put(cache.Guard(ctx, l), host, []byte("value")), l.Extend(ctx, long))
	if err == nil {
		<-changes
	}
	_, err = c.Get(ctx, host)
	errs = append(errs, err)
	_, err = c.GetMany(ctx, []string{host})
	errs = append(errs, err)
	for _, err := range c.Keys(ctx) {
		errs = append(errs, err)
	}
	errs = append(errs, c.Delete(cache.Guard(ctx, l), host), l.Unlock(ctx), l.Unlock(ctx))
	if last := len(errs) - 1; errors.Is(errs[last], cache.ErrLost) {
		errs = errs[:last] // of the second Unlock
	}
	return errors.Join(errs...)
}
