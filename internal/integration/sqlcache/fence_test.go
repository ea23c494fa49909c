package sqlcache_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// The comparison of the lease and the change of the entry are one step, however
// long the statement waits in the middle. The rows of servers are locked by the
// test itself to make it wait.
func testOneStep(t *testing.T, d *database) {
	for name, change := range map[string]func(ctx context.Context, c *sqlcache.Cache) error{
		"Put":    func(ctx context.Context, c *sqlcache.Cache) error { return c.Put(ctx, "key", []byte("new")) },
		"Delete": func(ctx context.Context, c *sqlcache.Cache) error { return c.Delete(ctx, "key") },
	} {
		t.Run(name+"DuringTakeover", func(t *testing.T) { testTakeover(t, d, change) })
		t.Run(name+"BeforeTakeover", func(t *testing.T) { testNoTakeover(t, d, change) })
	}
}

// testTakeover has a machine change an entry while its lease is being taken over.
func testTakeover(t *testing.T, d *database, change func(context.Context, *sqlcache.Cache) error) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	l := entryAndLease(t, c, ttl)
	tx := d.begin(t)
	exec(t, tx, "UPDATE "+prefix+"locks SET token = token + 1, holder = 'another'")
	changed := make(chan error, 1)
	go func() { changed <- change(cache.Guard(ctx, l), c) }()
	waitForWaiters(t, d, prefix, 1, changed)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-changed; !errors.Is(err, cache.ErrLost) {
		t.Errorf("changed during the takeover: error %v, want ErrLost", err)
	}
	if data, err := c.Get(ctx, "key"); string(data) != "old" || err != nil {
		t.Errorf("after a change by a lost lease the entry is %q, error %v", data, err)
	}
}

// testNoTakeover has a machine change an entry whose row is locked: until the
// change is made, the lease does not end.
func testNoTakeover(t *testing.T, d *database, change func(context.Context, *sqlcache.Cache) error) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	l := entryAndLease(t, c, ttl)
	tx := d.begin(t)
	exec(t, tx, "SELECT 1 FROM "+prefix+"entries FOR UPDATE")
	changed := make(chan error, 1)
	go func() { changed <- change(cache.Guard(ctx, l), c) }()
	waitForWaiters(t, d, prefix, 1, changed)

	db := d.openAt(t, d.server.Addr())
	ended := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, endLeases[d.dialect](prefix))
		ended <- err
	}()
	waitForWaiters(t, d, prefix, 2, ended)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	err := <-changed
	if endErr := <-ended; endErr != nil {
		t.Error(endErr)
	}
	// With more isolation than usual, the database rolls the change back, and the
	// lease has ended when it is tried again.
	data, _ := c.Get(ctx, "key")
	if old := string(data) == "old"; err == nil && old || err != nil && (!old || !errors.Is(err, cache.ErrLost)) {
		t.Errorf("the change returned %v, and the entry is %q", err, data)
	}
}

// begin begins a transaction of the test's own, not through a pooler.
func (d *database) begin(t *testing.T) *sql.Tx {
	t.Helper()
	tx, err := d.openAt(t, d.server.Addr()).Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	return tx
}

// entryAndLease makes the entry "key" and takes the lock "name".
func entryAndLease(t *testing.T, c *sqlcache.Cache, ttl time.Duration) cache.Lease {
	t.Helper()
	if err := c.Put(t.Context(), "key", []byte("old")); err != nil {
		t.Fatal(err)
	}
	l, err := c.Lock(t.Context(), "name", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// waitForWaiters waits until n statements about the tables wait for rows, the last
// of which sends when it ends, which is too early.
func waitForWaiters(t *testing.T, d *database, prefix string, n int, last <-chan error) {
	t.Helper()
	query := map[sqlcache.Dialect]string{
		sqlcache.PostgreSQL: "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%" + prefix + "%'",
		sqlcache.MariaDB: "SELECT variable_value FROM information_schema.global_status " +
			"WHERE variable_name = 'Innodb_row_lock_current_waits'",
	}[d.dialect]
	db := d.openAt(t, d.server.Addr())
	for waiters := 0; waiters < n; {
		if err := db.QueryRowContext(t.Context(), query).Scan(&waiters); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-last:
			t.Fatalf("a statement did not wait for the row that another one has locked: error %v", err)
		default:
		}
	}
}
