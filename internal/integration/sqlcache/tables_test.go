package sqlcache_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// testTables checks how tables are made, and what is said if they are not there.
func testTables(t *testing.T, d *database) {
	ctx := t.Context()
	db := d.open(t)

	missing := d.machine(t, db, d.prefix())
	_, get := missing.Get(ctx, "key")
	_, lock := missing.Lock(ctx, "name", "owner", ttl)
	for call, err := range map[string]error{
		"Get":   get,
		"Lock":  lock,
		"Put":   missing.Put(ctx, "key", nil),
		"Check": missing.Check(ctx),
	} {
		if err == nil || !strings.Contains(err.Error(), "call CreateTables once") {
			t.Errorf("%s without tables: error %v, want one that says what to do", call, err)
		}
	}

	// Machines that start at the same time all create the tables.
	prefix := d.prefix()
	var wg sync.WaitGroup
	for range 6 {
		c := d.machine(t, d.open(t), prefix)
		wg.Go(func() {
			if err := c.CreateTables(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// Whoever runs the statements of DDL gets the same tables.
	byHand := d.prefix()
	for statement := range strings.SplitSeq(d.machine(t, db, byHand).DDL(), ";\n") {
		if statement != "" {
			exec(t, db, statement)
		}
	}
	if err := d.machine(t, db, byHand).Check(ctx); err != nil {
		t.Error(err)
	}
	got, want := describe(t, db, d.dialect, byHand), describe(t, db, d.dialect, prefix)
	if got != want || strings.Count(want, "name") < 2 {
		t.Errorf("DDL makes\n%s\nand CreateTables makes\n%s", got, want)
	}
}

// describe returns what the database knows about the two tables.
func describe(t *testing.T, db *sql.DB, dialect sqlcache.Dialect, prefix string) string {
	t.Helper()
	query := map[sqlcache.Dialect]string{
		sqlcache.PostgreSQL: `SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, collation_name, column_default,
			(SELECT string_agg(indexdef, ';') FROM pg_indexes WHERE tablename = table_name))
			FROM information_schema.columns WHERE table_name LIKE '` + prefix + `%' ORDER BY 1`,
		sqlcache.MariaDB: `SELECT concat_ws(' ', c.table_name, column_name, column_type, is_nullable, column_key, engine)
			FROM information_schema.columns c JOIN information_schema.tables t
			ON t.table_name = c.table_name AND t.table_schema = c.table_schema WHERE c.table_name LIKE '` + prefix + `%' ORDER BY 1`,
		sqlcache.SQLite: `SELECT sql FROM sqlite_schema WHERE tbl_name LIKE '` + prefix + `%' AND sql IS NOT NULL ORDER BY 1`,
	}[dialect]
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(all.String(), prefix, "")
}
