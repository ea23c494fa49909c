package main

import (
	"context"
	"database/sql"

	_ "modernc.org/sqlite" // the driver

	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// openStore opens the store that the servers share, and creates its tables if
// there are none.
func openStore(ctx context.Context, file string) (*sqlcache.Cache, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	store, err := sqlcache.New(db, sqlcache.SQLite)
	if err != nil {
		return nil, err
	}
	return store, store.CreateTables(ctx)
}
