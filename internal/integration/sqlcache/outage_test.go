package sqlcache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
	"github.com/nostall/nostall/internal/servertest"
)

// testOutage checks what happens while the server is away, and after that.
func testOutage(t *testing.T, d *database) {
	t.Run("Restart", func(t *testing.T) { testRestart(t, d) })
	t.Run("Kill", func(t *testing.T) { testKill(t, d) })
	t.Run("Cut", func(t *testing.T) { testCut(t, d) })
	if d.addr != d.server.Addr() {
		// PgBouncer 1.18 may end ("bad client state", pgbouncer/pgbouncer#801) when a
		// client gives up a request to cancel a statement, and pgx makes one when a
		// context ends. The client's side is the same as without PgBouncer.
		return
	}
	t.Run("BlackHole", func(t *testing.T) {
		proxy := servertest.StartProxy(t, d.addr)
		testHang(t, d, proxy.Addr(), proxy.Blackhole, proxy.Heal)
	})
	t.Run("PausedServer", func(t *testing.T) { testHang(t, d, d.addr, d.server.Pause, d.server.Continue) })
}

// testRestart restarts the server while leases are held: they go on, and tokens
// increase.
func testRestart(t *testing.T, d *database) {
	testAgain(t, d, func() { d.server.Stop(); d.server.Start() })
}

func testKill(t *testing.T, d *database) {
	testAgain(t, d, func() { d.server.Kill(); d.server.Start() })
}

func testAgain(t *testing.T, d *database, again func()) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	held := entryAndLease(t, c, time.Hour)
	ended, err := c.Lock(ctx, "ended", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	if err := ended.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	again()

	other := d.machine(t, d.open(t), prefix)
	var taken *cache.HeldError
	if _, err := eventually(t, func() (cache.Lease, error) { return other.Lock(ctx, "name", "other", ttl) }); !errors.As(err, &taken) {
		t.Errorf("locked although the lease goes on: error %v", err)
	}
	next, err := other.Lock(ctx, "ended", "other", ttl)
	if err != nil || next.Token() <= ended.Token() {
		t.Errorf("after the restart: lease %v, error %v, want a token above %d", next, err, ended.Token())
	}
	// The connections of the first machine are dead. It needs no new pool.
	_, err = eventually(t, func() (any, error) { return nil, held.Extend(ctx, time.Hour) })
	if err != nil {
		t.Errorf("extend the lease after the restart: %v", err)
	}
	if err := c.Put(cache.Guard(ctx, held), "key", []byte("new")); err != nil {
		t.Errorf("put under the lease after the restart: %v", err)
	}
	if data, err := other.Get(ctx, "key"); string(data) != "new" || err != nil {
		t.Errorf("after the restart the entry is %q, error %v", data, err)
	}
}

// eventually calls f until no connection is dead: there are as many of them as
// there were calls at the same time.
func eventually[T any](t *testing.T, f func() (T, error)) (T, error) {
	t.Helper()
	for try := 1; ; try++ {
		v, err := f()
		var held *cache.HeldError
		if err == nil || errors.As(err, &held) || errors.Is(err, cache.ErrLost) || try == 20 {
			return v, err
		}
	}
}

// testHang checks that calls return when their context ends while nothing
// answers, with an error that says nothing about entries and locks.
func testHang(t *testing.T, d *database, addr string, hang, heal func()) {
	_, prefix := d.cache(t)
	c := d.machine(t, d.openAt(t, addr), prefix)
	l := entryAndLease(t, c, time.Hour)
	defer heal()
	calls := map[string]func(context.Context) error{
		"Get":     func(ctx context.Context) error { _, err := c.Get(ctx, "missing"); return err },
		"Put":     func(ctx context.Context) error { return c.Put(ctx, "other", []byte("value")) },
		"Delete":  func(ctx context.Context) error { return c.Delete(ctx, "other") },
		"Guarded": func(ctx context.Context) error { return c.Put(cache.Guard(ctx, l), "key", []byte("new")) },
		"GetMany": func(ctx context.Context) error { _, err := c.GetMany(ctx, []string{"key"}); return err },
		"Keys": func(ctx context.Context) error {
			for _, err := range c.Keys(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Lock":         func(ctx context.Context) error { _, err := c.Lock(ctx, "name", "owner", ttl); return err },
		"Extend":       func(ctx context.Context) error { return l.Extend(ctx, time.Hour) },
		"Check":        c.Check,
		"CreateTables": c.CreateTables,
	}
	for name, call := range calls {
		// The first connection was in use before, the second call makes a new one.
		for range 2 {
			if err := c.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			hang()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := call(ctx) // the test's time-out ends it if it hangs
			cancel()
			heal()
			var held *cache.HeldError
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cache.ErrMiss) ||
				errors.Is(err, cache.ErrLost) || errors.As(err, &held) {
				t.Errorf("%s while nothing answers: error %v, want one that wraps DeadlineExceeded", name, err)
			}
		}
	}
	if _, err := eventually(t, func() ([]byte, error) { return c.Get(t.Context(), "key") }); err != nil {
		t.Errorf("when the server answers again: %v", err)
	}
}

// testCut checks that a server that is gone is an error, not a miss.
func testCut(t *testing.T, d *database) {
	_, prefix := d.cache(t)
	proxy := servertest.StartProxy(t, d.addr)
	c := d.machine(t, d.openAt(t, proxy.Addr()), prefix)
	entryAndLease(t, c, ttl)
	proxy.Cut()
	for range 3 {
		_, err := c.Get(t.Context(), "key")
		if err == nil || errors.Is(err, cache.ErrMiss) || !strings.HasPrefix(err.Error(), `sqlcache: get "key": `) {
			t.Errorf("Get from a server that is gone: error %v", err)
		}
	}
	proxy.Heal()
	if _, err := eventually(t, func() ([]byte, error) { return c.Get(t.Context(), "key") }); err != nil {
		t.Errorf("when the server is there again: %v", err)
	}
}

// While another process writes for long, a call returns when its context ends,
// though the driver waits for busy_timeout.
func TestSQLiteBusy(t *testing.T) {
	d := sqlite(t, "journal_mode(WAL)", "busy_timeout(60000)")
	c, prefix := d.cache(t)
	tx, err := d.open(t).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	exec(t, tx, "DELETE FROM "+prefix+"entries")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := c.Put(ctx, "key", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put while another process writes: error %v after %v", err, time.Since(start))
	}
	if took := time.Since(start); took > 50*time.Second {
		t.Errorf("Put took %v", took)
	}
	if _, err := c.Get(t.Context(), "key"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("Get while another process writes: %v", err)
	}
}

func TestSQLiteWithoutBusyTimeout(t *testing.T) {
	d := sqlite(t)
	c := d.machine(t, d.open(t), sqlcache.DefaultPrefix)
	if err := c.CreateTables(t.Context()); err == nil || !strings.Contains(err.Error(), "busy_timeout") {
		t.Errorf("without a busy_timeout: error %v", err)
	}
}
