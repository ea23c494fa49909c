package rediscache_test

import (
	"errors"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/servertest"
)

// A failover may lose an acknowledged lock, with the counter and the entry. Two
// machines then believe to have the lock, and only the second can write.
func TestFailoverThatLosesALock(t *testing.T) {
	servers := servertest.StartRedisSentinel(t)
	a, b := newCache(t, connectSentinel(t, servers)), newCache(t, connectSentinel(t, servers))
	put(t, t.Context(), b, "replicated")
	servers.Primary.Await("1", "WAIT", "1", "0")

	// The replica gets nothing from here on.
	replica := servers.Replica.Process()
	replica.Pause()
	if got := servers.Primary.CLI("CLIENT", "KILL", "TYPE", "replica"); got != "1" {
		t.Fatalf("%s connections of replicas were closed, want 1", got)
	}
	lost := lock(t, a, "machine a")
	put(t, cache.Guard(t.Context(), lost), a, "lost")
	servers.Primary.Kill()
	replica.Continue()
	servers.Failover()

	checkGet(t, a, "replicated")
	checkLost(t, a, lost)
	l := lock(t, b, "machine b")
	if l.Token() <= lost.Token() {
		t.Errorf("the token after the failover is %d, and that of the lost lock was %d", l.Token(), lost.Token())
	}
	put(t, cache.Guard(t.Context(), l), b, "of the new holder")
	checkLost(t, a, lost)
	checkGet(t, a, "of the new holder")
	checkHeld(t, a, "machine b")

	// The old primary comes back as a replica, and what it had accepted is gone.
	servers.Replica.Restart()
	servers.Primary.Await("1", "WAIT", "1", "0")
	checkGet(t, a, "of the new holder")
	if err := b.Delete(cache.Guard(t.Context(), l), host); err != nil {
		t.Error(err)
	}
	if _, err := a.Get(t.Context(), host); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get of the deleted entry: %v, want a miss", err)
	}
}
