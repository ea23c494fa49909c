package sqlcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// testStatements looks at every statement that the cache sends. None has a time
// of this machine, whose clock may be wrong. None begins a transaction or is
// prepared, which a pooler would give to another client, or a machine that stops
// would leave open.
func testStatements(t *testing.T, d *database) {
	_, prefix := d.cache(t)
	real := d.open(t)
	r := &recorder{driver: real.Driver(), dsn: d.dsn(d.addr)}
	c := d.machine(t, pool(t, sql.OpenDB(r)), prefix)
	token := callAll(t, c)

	if len(r.calls) < 15 {
		t.Fatalf("only %d statements were seen", len(r.calls))
	}
	now := time.Now()
	for _, call := range r.calls {
		first, _, _ := strings.Cut(strings.ToUpper(call.query), " ")
		switch strings.TrimSpace(first) {
		case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "PRAGMA":
		default:
			t.Errorf("this is no single statement: %s", call.query)
		}
		for _, arg := range call.args {
			switch v := arg.Value.(type) {
			case string, []byte:
				if strings.Contains(fmt.Sprintf("%s", v), now.Format("2006")) {
					t.Errorf("an argument has the year: %s %q", call.query, v)
				}
			case int: // the size of a page
			case int64:
				if v == token {
					continue // the server's time, which it compares with its own
				}
				for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond, time.Nanosecond} {
					if clock := now.UnixNano() / int64(unit); v > clock/2 && v < clock*2 {
						t.Errorf("an argument looks like a time: %s %d", call.query, v)
					}
				}
			default:
				t.Errorf("an argument is a %T: %s", v, call.query)
			}
		}
	}
}

// callAll calls each method in each way. It returns the token of its lease.
func callAll(t *testing.T, c *sqlcache.Cache) int64 {
	t.Helper()
	ctx := t.Context()
	l, err := c.Lock(ctx, "name", "owner", ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(ctx, "name", "owner", ttl); err == nil {
		t.Error("locked twice")
	}
	_, get := c.Get(ctx, "key")
	_, many := c.GetMany(ctx, []string{"key"})
	for range c.Keys(ctx) {
	}
	guarded := cache.Guard(ctx, l)
	for i, err := range []error{
		c.CreateTables(ctx), c.Put(ctx, "key", nil), c.Delete(ctx, "key"), many,
		c.Put(guarded, "key", nil), c.Delete(guarded, "key"), c.Delete(guarded, "key"),
		l.Extend(ctx, ttl), l.Unlock(ctx),
	} {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if get == nil || c.Put(guarded, "key", nil) == nil {
		t.Error("a miss, or a change by a lost lease, is no error")
	}
	return l.Token()
}

// A recorder connects with a driver's connections that only have the methods for
// single statements, and keeps these.
type recorder struct {
	driver driver.Driver
	dsn    string

	mu    sync.Mutex // protects calls
	calls []call
}

type call struct {
	query string
	args  []driver.NamedValue
}

func (r *recorder) Driver() driver.Driver { return r.driver }

func (r *recorder) Connect(context.Context) (driver.Conn, error) {
	conn, err := r.driver.Open(r.dsn)
	if err != nil {
		return nil, err
	}
	return &recorded{Conn: conn, recorder: r}, nil
}

func (r *recorder) add(query string, args []driver.NamedValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call{query, args})
}

type recorded struct {
	driver.Conn
	recorder *recorder
}

func (c *recorded) Prepare(query string) (driver.Stmt, error) {
	return nil, fmt.Errorf("prepared: %s", query)
}

func (c *recorded) Begin() (driver.Tx, error) { return nil, fmt.Errorf("a transaction was begun") }

func (c *recorded) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *recorded) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.recorder.add(query, args)
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err != driver.ErrSkip {
		return result, err
	}
	// The driver has database/sql prepare the statement, execute and close it.
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	return stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (c *recorded) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.recorder.add(query, args)
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	if err != driver.ErrSkip {
		return rows, err
	}
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}
