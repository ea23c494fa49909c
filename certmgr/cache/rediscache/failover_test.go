package rediscache_test

import (
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/servertest"
)

// What the replica had before the primary died holds after the failover.
func TestLeaseOutlivesAFailover(t *testing.T) {
	servers := servertest.StartRedisSentinel(t)
	a, b := newCache(t, connectSentinel(t, servers)), newCache(t, connectSentinel(t, servers))
	l := lock(t, a, "machine a")
	put(t, cache.Guard(t.Context(), l), a, "before")
	servers.Primary.Await("1", "WAIT", "1", "0")
	servers.Primary.Kill()
	servers.Failover()
	checkHeld(t, b, "machine a")
	checkGet(t, b, "before")
	put(t, cache.Guard(t.Context(), l), a, "after")
	checkGet(t, b, "after")
	if err := l.Extend(t.Context(), long); err != nil {
		t.Error(err)
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
	if next := lock(t, b, "machine b"); next.Token() <= l.Token() {
		t.Errorf("the token after a failover is %d, and was %d before", next.Token(), l.Token())
	}
}
