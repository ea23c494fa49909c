package sqlcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// The tests that need databases are in internal/integration/sqlcache.

var errLocked = errors.New("database is locked (5) (SQLITE_BUSY)")

// A statement that was rolled back because of others is run again, with waits, a
// bounded number of times.
func TestConflictsAreRetried(t *testing.T) {
	for _, test := range []struct {
		name      string
		conflicts int // how many there are before a success
		calls     int
		err       error
	}{
		{"none", 0, 1, nil},
		{"some", 3, 4, nil},
		{"almost too many", maxTries - 1, maxTries, nil},
		{"too many", maxTries, maxTries, errLocked},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.reply = func(context.Context, string) ([][]driver.Value, int64, error) {
					if f.calls <= test.conflicts {
						return nil, 0, errLocked
					}
					return nil, 1, nil
				}
				start := time.Now()
				err := f.open(t, SQLite).Put(t.Context(), "key", nil)
				if !errors.Is(err, test.err) || f.calls != test.calls {
					t.Errorf("%d statements, error %v, want %d, %v", f.calls, err, test.calls, test.err)
				}
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("the waits took %v", took)
				}
			})
		})
	}
}

// Nothing but a conflict is tried again: a statement whose reply was lost may have
// been executed.
func TestOtherErrorsAreNotRetried(t *testing.T) {
	lost := errors.New("connection reset by peer")
	f := &fake{reply: func(context.Context, string) ([][]driver.Value, int64, error) { return nil, 0, lost }}
	if err := f.open(t, SQLite).Put(t.Context(), "key", nil); !errors.Is(err, lost) || f.calls != 1 {
		t.Errorf("%d statements, error %v", f.calls, err)
	}
}

// The wait for the next try ends with the context.
func TestRetryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fake{reply: func(context.Context, string) ([][]driver.Value, int64, error) {
			cancel()
			return nil, 0, errLocked
		}}
		err := f.open(t, SQLite).Put(ctx, "key", nil)
		if !errors.Is(err, context.Canceled) || f.calls != 1 {
			t.Errorf("%d statements, error %v", f.calls, err)
		}
	})
}

// No rows are a miss, but not if the context has ended meanwhile: a driver may
// have stopped reading.
func TestNoRowsAreAMissWhileTheContextLasts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{reply: func(context.Context, string) ([][]driver.Value, int64, error) { return nil, 0, nil }}
	c := f.open(t, PostgreSQL)
	if _, err := c.Get(ctx, "key"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("no rows: error %v, want a miss", err)
	}
	f.reply = func(context.Context, string) ([][]driver.Value, int64, error) {
		cancel()
		return nil, 0, nil
	}
	if _, err := c.Get(ctx, "key"); !errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrMiss) {
		t.Errorf("no rows after the context has ended: error %v", err)
	}
}

// If others take the lock each time between the look and the taking, Lock ends, and
// says who.
func TestLockEndsWhenOthersAreFaster(t *testing.T) {
	f := &fake{}
	f.reply = func(_ context.Context, statement string) ([][]driver.Value, int64, error) {
		if strings.HasPrefix(statement, "SELECT") {
			return nil, 0, nil // free
		}
		return [][]driver.Value{{int64(7), "holder", "another", int64(5_000_000)}}, 0, nil
	}
	_, err := f.open(t, MariaDB).Lock(t.Context(), "name", "owner", time.Minute)
	var held *cache.HeldError
	if !errors.As(err, &held) || held.Owner != "another" || held.Remaining != 5*time.Second {
		t.Errorf("error %v", err)
	}
	if f.calls != 2*maxTakes {
		t.Errorf("%d statements, want %d", f.calls, 2*maxTakes)
	}
}

// A lease of another cache, or of something else, is refused before the database
// is asked.
func TestForeignLeasesAreRefused(t *testing.T) {
	f := &fake{reply: func(context.Context, string) ([][]driver.Value, int64, error) { return nil, 1, nil }}
	c := f.open(t, SQLite)
	for _, l := range []cache.Lease{&lease{cache: f.open(t, SQLite), name: "name", token: 1}, struct{ cache.Lease }{}} {
		ctx := cache.Guard(t.Context(), l)
		put, del := c.Put(ctx, "key", nil), c.Delete(ctx, "key")
		if put == nil || del == nil || f.calls != 0 {
			t.Errorf("under a foreign lease: Put %v, Delete %v, %d statements", put, del, f.calls)
		}
	}
}

func TestNewChecksItsArguments(t *testing.T) {
	for _, prefix := range []string{"", "Upper_", "1_", "a-", "a;b", "a.b.c", ".a", strings.Repeat("a", 41)} {
		if _, err := New(nil, SQLite, TablePrefix(prefix)); err == nil {
			t.Errorf("the prefix %q is taken", prefix)
		}
	}
	for _, dialect := range []Dialect{0, SQLite + 1} {
		if _, err := New(nil, dialect); err == nil || !strings.Contains(err.Error(), dialect.String()) {
			t.Errorf("dialect %v: error %v", dialect, err)
		}
	}
	c, err := New(nil, PostgreSQL, TablePrefix("acme.certs_"))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"acme.certs_entries (", "acme.certs_locks ("} {
		if !strings.Contains(c.DDL(), "CREATE TABLE IF NOT EXISTS "+table) {
			t.Errorf("DDL does not create %s):\n%s", table, c.DDL())
		}
	}
}

// No statement has a name left to fill in, and each of a dialect is there.
func TestStatementsAreComplete(t *testing.T) {
	for _, dialect := range []Dialect{PostgreSQL, MariaDB, SQLite} {
		s, err := statementsOf(dialect, DefaultPrefix)
		if err != nil {
			t.Fatal(err)
		}
		for i, statement := range []string{
			s.createEntries, s.createLocks, s.get, s.put, s.delete, s.keys, s.putGuarded, s.deleteGuarded,
			s.look, s.take, s.extend, s.unlock, s.expired, s.remove,
		} {
			if statement == "" || strings.ContainsAny(statement, "{}") || !strings.Contains(statement, DefaultPrefix) {
				t.Errorf("%v: statement %d is %q", dialect, i, statement)
			}
		}
	}
}

// stateError is like those of pgx and lib/pq.
type stateError string

func (e stateError) Error() string    { return "ERROR: something (SQLSTATE " + string(e) + ")" }
func (e stateError) SQLState() string { return string(e) }

// Errors of the drivers are understood, and advice follows them.
func TestMeaningsOfErrors(t *testing.T) {
	for _, test := range []struct {
		dialect Dialect
		err     error
		want    meaning
	}{
		{PostgreSQL, stateError("40P01"), conflict},
		{PostgreSQL, stateError("42710"), conflict},
		{PostgreSQL, stateError("42P01"), noTable},
		{PostgreSQL, stateError("42P05"), noSession},
		{PostgreSQL, stateError("08P01"), other},
		{PostgreSQL, stateError("25006"), noWrites},
		{PostgreSQL, errors.New("Error 1213"), other},
		{MariaDB, errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), conflict},
		{MariaDB, errors.New("Error 1146 (42S02): Table 'test.t' doesn't exist"), noTable},
		{MariaDB, errors.New("Error 1290 (HY000): The MariaDB server is running with --read-only"), noWrites},
		{MariaDB, errors.New("packet for query is too large. Try adjusting the `Config.MaxAllowedPacket`"), tooLarge},
		{MariaDB, errors.New("invalid connection"), other},
		{SQLite, errors.New("SQL logic error: no such table: t (1)"), noTable},
		{SQLite, errors.New("attempt to write a readonly database (8)"), noWrites},
		{SQLite, errors.New("disk I/O error"), other},
	} {
		if got := test.dialect.meaningOf(test.err); got != test.want {
			t.Errorf("%v: %v means %d, want %d", test.dialect, test.err, got, test.want)
		}
		if (test.want.advice() == "") != (test.want == other) {
			t.Errorf("the advice for %v is %q", test.err, test.want.advice())
		}
	}
}
