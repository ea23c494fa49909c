package sqlcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"testing"
)

// A fake is a database that answers each statement with what reply returns: the
// rows of a query, or the number of affected rows.
type fake struct {
	reply func(ctx context.Context, statement string) (rows [][]driver.Value, affected int64, err error)
	calls int // how many statements there were; a test uses one goroutine
}

// open returns a cache in the database.
func (f *fake) open(t *testing.T, dialect Dialect) *Cache {
	t.Helper()
	db := sql.OpenDB(f)
	t.Cleanup(func() { db.Close() })
	c, err := New(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fake) Connect(context.Context) (driver.Conn, error) { return fakeConn{f}, nil }
func (f *fake) Driver() driver.Driver                        { return nil }

type fakeConn struct{ f *fake }

func (c fakeConn) Prepare(string) (driver.Stmt, error) { panic("prepared") }
func (c fakeConn) Begin() (driver.Tx, error)           { panic("begun") }
func (c fakeConn) Close() error                        { return nil }

func (c fakeConn) ExecContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	c.f.calls++
	_, n, err := c.f.reply(ctx, query)
	return driver.RowsAffected(n), err
}

func (c fakeConn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	c.f.calls++
	rows, _, err := c.f.reply(ctx, query)
	return &fakeRows{rows}, err
}

type fakeRows struct{ left [][]driver.Value }

func (r *fakeRows) Columns() []string {
	if len(r.left) == 0 {
		return nil
	}
	return make([]string, len(r.left[0]))
}

func (r *fakeRows) Close() error { return nil }

func (r *fakeRows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(dest, r.left[0])
	r.left = r.left[1:]
	return nil
}
