package rediscache_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/internal/servertest"
)

// A server that is killed and started again has its locks, tokens and entries, by
// its append-only file.
func TestLeaseOutlivesARestart(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	for _, end := range []func(){server.Stop, server.Kill} {
		l := lock(t, c, "machine a")
		put(t, cache.Guard(t.Context(), l), c, "before")
		end()
		server.Restart()
		checkHeld(t, c, "machine a")
		checkGet(t, c, "before")
		put(t, cache.Guard(t.Context(), l), c, "after")
		if err := l.Extend(t.Context(), long); err != nil {
			t.Error(err)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		next := lock(t, c, "machine b")
		if next.Token() <= l.Token() {
			t.Errorf("the token after a restart is %d, and was %d before", next.Token(), l.Token())
		}
		checkLost(t, c, l)
		checkGet(t, c, "after")
		next.Unlock(t.Context())
	}
}

// Tokens grow even if the server has lost its counter, and the lock with it.
func TestTokensOutliveTheCounter(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	first := lock(t, c, "machine a")
	if got := server.CLI("FLUSHALL"); got != "OK" {
		t.Fatal(got)
	}
	second := lock(t, c, "machine b")
	if second.Token() <= first.Token() {
		t.Errorf("the token after the loss is %d, and was %d before", second.Token(), first.Token())
	}
	put(t, cache.Guard(t.Context(), second), c, "value")
	checkLost(t, c, first)
	checkGet(t, c, "value")
}

// A token is larger than the last one also if the server's clock has gone back.
func TestTokensOutliveTheClock(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	const last int64 = 4_000_000_000_000_000 // in 2096
	server.CLI("SET", "{certmgr}:token", fmt.Sprint(last))
	if got := lock(t, c, "machine a").Token(); got != last+1 {
		t.Errorf("the token is %d, want %d", got, last+1)
	}
}

// While machines take a lock over from each other, each entry is written by a
// lease that has the lock: the counter in it, which each reads and then writes,
// loses no count. The server forgets its scripts meanwhile.
func TestTakeoverRace(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			const machines, rounds = 10, 8
			connect := d.start(t).connect
			c := newCache(t, connect(t))
			put(t, t.Context(), c, "0")
			var wg sync.WaitGroup
			for range machines {
				other := newCache(t, connect(t))
				wg.Go(func() {
					for range rounds {
						count(t, other)
					}
				})
			}
			stop := make(chan struct{})
			flushing := sync.WaitGroup{}
			flushing.Go(func() { flush(t, connect(t), stop) })
			wg.Wait()
			close(stop)
			flushing.Wait()
			checkGet(t, c, fmt.Sprint(machines*rounds))
		})
	}
}

// count adds one to the entry, under a lease that is sometimes lost in between.
func count(t *testing.T, c *rediscache.Cache) {
	ctx := t.Context()
	for {
		l, err := c.Lock(ctx, host, "a machine", long)
		if _, held := errors.AsType[*cache.HeldError](err); held {
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		data, err := c.Get(ctx, host)
		if err != nil {
			t.Error(err)
			return
		}
		var n int
		fmt.Sscan(string(data), &n)
		lose := n%3 == 0 && l.Token()%2 == 0
		if lose {
			if err := l.Unlock(ctx); err != nil {
				t.Error(err)
			}
		}
		err = c.Put(cache.Guard(ctx, l), host, []byte(fmt.Sprint(n+1)))
		if lose {
			if !errors.Is(err, cache.ErrLost) {
				t.Errorf("Put of a lease that was unlocked: %v, want cache.ErrLost", err)
			}
			continue
		}
		if err == nil {
			err = l.Unlock(ctx)
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
}

// flush has all servers forget their scripts, over and over.
func flush(t *testing.T, client redis.UniversalClient, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Error(err)
			return
		}
	}
}

// cutConn loses the next reply of the server, and the connection, when told.
type cutConn struct {
	net.Conn
	cut *atomic.Bool
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.cut.Swap(false) {
		c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// A lock whose reply was lost belongs to the caller when the client has asked
// again: it must not be told that it is held, by itself.
func TestLockIsAskedForAgain(t *testing.T) {
	server := servertest.StartRedis(t)
	var cut atomic.Bool
	o := options(server)
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &cutConn{conn, &cut}, nil
	}
	c := newCache(t, closing(t, redis.NewClient(o)))
	// The scripts are known, so that one reply is that of one step.
	first := lock(t, c, "")
	put(t, cache.Guard(t.Context(), first), c, "value")
	if err := errors.Join(first.Extend(t.Context(), long), first.Unlock(t.Context())); err != nil {
		t.Fatal(err)
	}

	cut.Store(true)
	l := lock(t, c, "a machine with  spaces\nand lines ")
	if cut.Load() {
		t.Fatal("no reply was lost")
	}
	checkHeld(t, c, "a machine with  spaces\nand lines ")
	cut.Store(true)
	put(t, cache.Guard(t.Context(), l), c, "value 2")
	checkGet(t, c, "value 2")
	cut.Store(true)
	if err := l.Extend(t.Context(), long); err != nil {
		t.Error(err)
	}
}

// A lock that cannot end by itself would never be free again.
func TestLockWithoutExpiry(t *testing.T) {
	server := servertest.StartRedis(t)
	c := newCache(t, connect(t, server))
	for _, value := range []string{"123 abc an owner", "somebody else's"} {
		server.CLI("SET", "{certmgr}:lock:"+host, value)
		_, err := c.Lock(t.Context(), host, "machine", long)
		if _, held := errors.AsType[*cache.HeldError](err); err == nil || held {
			t.Errorf("Lock of a name with the value %q: %v, want an error that says what to do", value, err)
		}
	}
}

// A lease of another kind of store, or of another prefix, proves nothing here.
func TestForeignLease(t *testing.T) {
	server := servertest.StartRedis(t)
	client := connect(t, server)
	c, other := newCache(t, client), newCacheWith(t, client, unused())
	for name, l := range map[string]cache.Lease{"of another prefix": lock(t, other, "machine"), "made up": madeUp{}} {
		err := c.Put(cache.Guard(t.Context(), l), host, []byte("value"))
		if err == nil {
			t.Errorf("Put under a lease %s succeeds", name)
		}
	}
	if _, err := c.Get(t.Context(), host); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get after refused Puts: %v, want a miss", err)
	}
}

type madeUp struct{ cache.Lease }
