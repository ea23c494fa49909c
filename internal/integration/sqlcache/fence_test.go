package sqlcache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
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
	waitForWaiter(t, d, prefix)
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

// testNoTakeover has a machine change an entry whose row is locked for longer than
// the lease: another machine gets the lock only when the change is made.
func testNoTakeover(t *testing.T, d *database, change func(context.Context, *sqlcache.Cache) error) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	l := entryAndLease(t, c, cache.MinLease)
	tx := d.begin(t)
	exec(t, tx, "SELECT 1 FROM "+prefix+"entries FOR UPDATE")
	changed := make(chan error, 1)
	go func() { changed <- change(cache.Guard(ctx, l), c) }()
	waitForWaiter(t, d, prefix)

	successor := d.machine(t, d.open(t), prefix)
	locked := make(chan error, 1)
	go func() {
		for {
			_, err := successor.Lock(ctx, "name", "successor", ttl)
			var held *cache.HeldError
			if errors.As(err, &held) {
				continue
			}
			locked <- err
			return
		}
	}()
	select {
	case err := <-locked:
		t.Fatalf("the lock was taken, error %v, while a change under the lease had compared and not written", err)
	case <-time.After(cache.MinLease + 500*time.Millisecond):
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	err := <-changed
	if lockErr := <-locked; lockErr != nil {
		t.Errorf("the successor's Lock: %v", lockErr)
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

// waitForWaiter waits until a statement about the tables waits for a row.
func waitForWaiter(t *testing.T, d *database, prefix string) {
	t.Helper()
	query := map[sqlcache.Dialect]string{
		sqlcache.PostgreSQL: `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%%s%%'`,
		sqlcache.MariaDB:    `SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Innodb_row_lock_current_waits' -- %s`,
	}[d.dialect]
	db := d.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for n := 0; n == 0; {
		if err := db.QueryRowContext(ctx, fmt.Sprintf(query, strings.TrimSuffix(prefix, "_"))).Scan(&n); err != nil {
			t.Fatalf("no statement waits: %v", err)
		}
	}
}
