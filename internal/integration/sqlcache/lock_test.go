package sqlcache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

const ttl = time.Minute

// testLocks checks that one of many gets a lock, and the rows of the table.
func testLocks(t *testing.T, d *database) {
	ctx := t.Context()
	first, prefix := d.cache(t)
	const machines = 8
	var wg sync.WaitGroup
	leases := make(chan cache.Lease, machines)
	for range machines {
		c := d.machine(t, d.open(t), prefix)
		wg.Go(func() {
			l, err := c.Lock(ctx, "example.com", "a machine", ttl)
			var held *cache.HeldError
			switch {
			case err == nil:
				leases <- l
			case !errors.As(err, &held):
				t.Error(err)
			case held.Owner != "a machine" || held.Remaining <= 0 || held.Remaining > ttl:
				t.Errorf("the lock is held: %+v", held)
			}
		})
	}
	wg.Wait()
	if len(leases) != 1 {
		t.Fatalf("%d of %d machines got the lock", len(leases), machines)
	}
	l := <-leases
	if err := l.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Extend(ctx, ttl); !errors.Is(err, cache.ErrLost) {
		t.Errorf("extended after Unlock: error %v", err)
	}
	again, err := first.Lock(ctx, "example.com", strings.Repeat("x", cache.MaxOwner-3)+"\x00\xff\n", ttl)
	if err != nil {
		t.Fatal(err)
	}
	if again.Token() <= l.Token() {
		t.Errorf("token %d follows %d", again.Token(), l.Token())
	}
}

// testFencing counts in an entry on several machines whose leases end at random
// moments. A change that is not fenced, or that is compared in another step than
// made, is lost sooner or later: the machine that wrote it believes that it
// counted, and its successor never saw it.
func testFencing(t *testing.T, d *database) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, prefix := d.cache(t)
	if err := first.Put(ctx, "count", nil); err != nil {
		t.Fatal(err)
	}
	const machines, want = 6, 60
	db := d.open(t)
	var wg sync.WaitGroup
	counted := make(chan bool, 10*want)
	for range machines {
		c := d.machine(t, d.open(t), prefix)
		wg.Go(func() {
			for ctx.Err() == nil && len(counted) < want {
				ok, err := count(ctx, c)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				if ok {
					counted <- true
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { // leases end
		defer close(ended)
		for len(counted) < want && ctx.Err() == nil {
			// It may fail because of the other statements, and is repeated.
			db.ExecContext(ctx, endLeases[d.dialect](prefix))
		}
	}()
	wg.Wait()
	<-ended
	data, err := first.Get(t.Context(), "count")
	if err != nil || len(data) != len(counted) {
		t.Errorf("%d changes were made, of which %d are there, error %v", len(counted), len(data), err)
	}
}

// count makes the entry longer by one byte, and returns false if the lock is taken
// or lost.
func count(ctx context.Context, c *sqlcache.Cache) (bool, error) {
	l, err := c.Lock(ctx, "count", "a machine", ttl)
	var held *cache.HeldError
	if errors.As(err, &held) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	data, err := c.Get(ctx, "count")
	if err != nil {
		return false, err
	}
	err = c.Put(cache.Guard(ctx, l), "count", append(data, 'x'))
	if errors.Is(err, cache.ErrLost) {
		return false, nil
	}
	return err == nil, err
}

// endLeases returns a statement by which all leases end, as if time had passed.
var endLeases = map[sqlcache.Dialect]func(prefix string) string{
	sqlcache.PostgreSQL: func(p string) string { return "UPDATE " + p + "locks SET ends = 'epoch'" },
	sqlcache.MariaDB:    func(p string) string { return "UPDATE " + p + "locks SET ends = '1970-01-01'" },
	sqlcache.SQLite:     func(p string) string { return "UPDATE " + p + "locks SET ends = 0" },
}
