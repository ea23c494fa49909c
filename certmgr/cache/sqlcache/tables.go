package sqlcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// DDL returns the statements that create the tables, each ended by a semicolon,
// for those who change their databases themselves. It is what
// [Cache.CreateTables] runs.
func (c *Cache) DDL() string {
	return c.statements.createEntries + ";\n" + c.statements.createLocks + ";\n"
}

// CreateTables creates the tables that do not exist yet, and calls [Cache.Check].
// Several processes may call it at the same time, and each time they start.
func (c *Cache) CreateTables(ctx context.Context) error {
	for _, statement := range []string{c.statements.createEntries, c.statements.createLocks} {
		err := c.do(ctx, func() error {
			_, err := c.db.ExecContext(ctx, statement)
			return err
		})
		if err != nil {
			return fmt.Errorf("sqlcache: create the tables %sentries and %slocks: %w", c.prefix, c.prefix, err)
		}
	}
	return c.Check(ctx)
}

// Check returns an error if the cache cannot be used: if the database cannot be
// reached, if a table is missing, if the connection leads through a pooler that
// the driver is not set up for, or if SQLite has no busy_timeout. Call it when the
// program starts, unless [Cache.CreateTables] is called.
//
// It changes nothing, and uses two connections at the same time, if the database
// may have two.
func (c *Cache) Check(ctx context.Context) error {
	conns := 2 // a pooler may give both of them the same session
	if c.db.Stats().MaxOpenConnections == 1 {
		conns = 1
	}
	for range conns {
		conn, err := c.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("sqlcache: check: %w", c.explain(ctx, err))
		}
		defer conn.Close()
		for _, query := range []string{c.statements.get, c.statements.look} {
			err := c.do(ctx, func() error {
				rows, err := conn.QueryContext(ctx, query, "check")
				return each(rows, err, func() error { return nil })
			})
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("sqlcache: check: %w", err)
			}
		}
	}
	return c.checkBusy(ctx)
}

// checkBusy returns an error if SQLite would fail at once when others use the
// database.
func (c *Cache) checkBusy(ctx context.Context) error {
	if c.dialect != SQLite {
		return nil
	}
	var timeout int
	if err := c.db.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout); err != nil {
		return fmt.Errorf("sqlcache: check: %w", c.explain(ctx, err))
	}
	if timeout == 0 {
		return errors.New("sqlcache: check: SQLite has no busy_timeout: " +
			"open it with _pragma=busy_timeout(5000) or what the driver has for it")
	}
	return nil
}
