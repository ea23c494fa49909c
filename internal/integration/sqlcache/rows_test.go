package sqlcache_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// testRows checks which rows there are in the table of locks: strangers may choose
// the names, so rows must not gather.
func testRows(t *testing.T, d *database) {
	t.Run("Unlocked", func(t *testing.T) { testUnlocked(t, d) })
	t.Run("Successor", func(t *testing.T) { testSuccessor(t, d) })
	t.Run("DeadHolder", func(t *testing.T) { testDeadHolder(t, d) })
	t.Run("Cleaned", func(t *testing.T) { testCleaned(t, d) })
	if d.server != nil {
		t.Run("TokenOfSlowLock", func(t *testing.T) { testTokenOfSlowLock(t, d) })
	}
}

// testUnlocked locks and unlocks many names on some machines, of which no row is
// left.
func testUnlocked(t *testing.T, d *database) {
	ctx := t.Context()
	_, prefix := d.cache(t)
	const machines, names = 8, 1000
	var wg sync.WaitGroup
	for i := range machines {
		c := d.machine(t, d.open(t), prefix)
		wg.Go(func() {
			for n := i; n < names; n += machines {
				l, err := c.Lock(ctx, fmt.Sprintf("host-%d.example.com", n), "owner", ttl)
				if err == nil {
					err = l.Unlock(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := d.rows(t, prefix); n != 0 {
		t.Errorf("after %d names were locked and unlocked, the table has %d rows", names, n)
	}
}

// testSuccessor checks that a lease that has ended does nothing to the row that a
// successor made after the old one was deleted, not even if that has the same
// token, which a clock that is set back may lead to.
func testSuccessor(t *testing.T, d *database) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	db := d.open(t)
	other := d.machine(t, db, prefix)
	old := entryAndLease(t, c, ttl)
	exec(t, db, endLeases[d.dialect](prefix))
	for range 2 {
		l, err := other.Lock(ctx, "name", "other", ttl)
		if err != nil {
			t.Fatal(err)
		}
		if l.Token() <= old.Token() {
			t.Errorf("token %d follows %d", l.Token(), old.Token())
		}
		expectLost(t, c, old)
		if err := l.Extend(ctx, ttl); err != nil {
			t.Errorf("the successor's lease: %v", err)
		}
		if err := l.Unlock(ctx); err != nil {
			t.Errorf("the successor's lease: %v", err)
		}
		expectLost(t, c, old)
	}
	d.insertLock(t, db, prefix, "name", old.Token(), -1)
	expectLost(t, c, old)
	if n := d.rows(t, prefix); n != 1 {
		t.Errorf("there are %d rows, want that of the successor", n)
	}
	if data, err := c.Get(ctx, "key"); string(data) != "old" || err != nil {
		t.Errorf("after changes by a lost lease the entry is %q, error %v", data, err)
	}
}

// expectLost does all that can be done with a lease, which was lost.
func expectLost(t *testing.T, c *sqlcache.Cache, l cache.Lease) {
	t.Helper()
	ctx := cache.Guard(t.Context(), l)
	for call, err := range map[string]error{
		"Put":    c.Put(ctx, "key", []byte("new")),
		"Delete": c.Delete(ctx, "key"),
		"Extend": l.Extend(ctx, ttl),
		"Unlock": l.Unlock(ctx),
	} {
		if !errors.Is(err, cache.ErrLost) {
			t.Errorf("%s of a lost lease: error %v, want ErrLost", call, err)
		}
	}
}

// testDeadHolder checks that the row of a holder that died is that of the next
// one, whose token is larger though the server's clock was set back meanwhile.
func testDeadHolder(t *testing.T, d *database) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	db := d.open(t)
	const token = 1 << 60 // of a clock that was far ahead
	d.insertLock(t, db, prefix, "name", token, 0)
	l, err := c.Lock(ctx, "name", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	if l.Token() <= token {
		t.Errorf("token %d follows %d", l.Token(), int64(token))
	}
	if n := d.rows(t, prefix); n != 1 {
		t.Errorf("there are %d rows, want one", n)
	}
	if err := l.Unlock(ctx); err != nil {
		t.Error(err)
	}
	if n := d.rows(t, prefix); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// testCleaned checks that rows of holders that died are removed by and by, if
// nobody locks their names again, and no others.
func testCleaned(t *testing.T, d *database) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	db := d.open(t)
	held, err := c.Lock(ctx, "held", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	const dead = 40
	for i := range dead {
		d.insertLock(t, db, prefix, fmt.Sprintf("dead-%d", i), held.Token()+int64(i)+2, 25)
	}
	d.insertLock(t, db, prefix, "recent", held.Token()+1, 23)
	for calls := 1; d.rows(t, prefix) > 2; calls++ {
		if calls > dead {
			t.Fatalf("after %d calls of Unlock, %d rows are there, want 2", calls, d.rows(t, prefix))
		}
		l, err := c.Lock(ctx, "name", "owner", ttl)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Unlock(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := held.Unlock(ctx); err != nil {
		t.Errorf("the lock that is held: %v", err)
	}
	var name string
	if err := db.QueryRowContext(ctx, "SELECT name FROM "+prefix+"locks").Scan(&name); name != "recent" {
		t.Errorf("the row %q is left, error %v", name, err)
	}
}

// testTokenOfSlowLock has a Lock wait at the server while another machine takes the
// lock and gives it back, which a transaction of the test's own stands for: it has
// made a row, and deletes it. The token of the slow one is the larger one.
func testTokenOfSlowLock(t *testing.T, d *database) {
	ctx := t.Context()
	c, prefix := d.cache(t)
	tx := d.begin(t)
	d.insertLock(t, tx, prefix, "name", 1, -1)
	locked := make(chan error, 1)
	var l cache.Lease
	go func() {
		var err error
		l, err = c.Lock(ctx, "name", "owner", ttl)
		locked <- err
	}()
	waitForWaiters(t, d, prefix, 1, locked)
	other, err := d.machine(t, d.open(t), prefix).Lock(ctx, "another", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, "DELETE FROM "+prefix+"locks WHERE name = 'name'")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	if l.Token() <= other.Token() {
		t.Errorf("the token is %d, and that of a lease which has ended was %d", l.Token(), other.Token())
	}
}

// rows returns how many rows the table of locks has.
func (d *database) rows(t *testing.T, prefix string) (n int) {
	t.Helper()
	if err := d.open(t).QueryRowContext(t.Context(), "SELECT count(*) FROM "+prefix+"locks").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// insertLock makes the row of a lock whose lease has ended so many hours ago.
func (d *database) insertLock(t *testing.T, db execer, prefix, name string, token int64, hours int) {
	t.Helper()
	ends := map[sqlcache.Dialect]string{
		sqlcache.PostgreSQL: "clock_timestamp() - interval '%d hours'",
		sqlcache.MariaDB:    "UTC_TIMESTAMP(6) - INTERVAL %d HOUR",
		sqlcache.SQLite:     "(strftime('%%s', 'now') - 3600 * %d) * 1000",
	}[d.dialect]
	exec(t, db, fmt.Sprintf("INSERT INTO "+prefix+"locks (name, token, holder, owner, ends) "+
		"VALUES ('%s', %d, 'another', 'another', "+ends+")", name, token, hours))
}
