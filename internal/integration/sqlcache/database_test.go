package sqlcache_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
	"github.com/nostall/nostall/internal/servertest"
	_ "modernc.org/sqlite"
)

// A database is an empty database that the subtests of one test share.
type database struct {
	dialect sqlcache.Dialect
	driver  string
	dsn     func(addr string) string
	addr    string             // of what clients connect to, or ""
	server  *servertest.Server // the database's own, or nil
	tables  atomic.Int64       // how many prefixes of tables are in use
}

func postgreSQL(t *testing.T, parameters ...string) *database {
	t.Helper()
	server := servertest.StartPostgres(t)
	return postgreSQLAt(server, server.Addr(), parameters...)
}

func postgreSQLAt(server *servertest.Postgres, addr string, parameters ...string) *database {
	return &database{
		dialect: sqlcache.PostgreSQL,
		driver:  "pgx",
		dsn:     func(addr string) string { return servertest.PostgresURL(addr, "postgres", parameters...) },
		addr:    addr,
		server:  server.Server,
	}
}

func pgBouncer(t *testing.T, mode string, settings ...string) *database {
	t.Helper()
	server := servertest.StartPostgres(t)
	bouncer := servertest.StartPgBouncer(t, server, settings...)
	return postgreSQLAt(server, bouncer.Addr(), "default_query_exec_mode="+mode)
}

func mariaDB(t *testing.T, set func(*mysql.Config)) *database {
	t.Helper()
	server := servertest.StartMariaDB(t)
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // it has nothing that errors do not have
		t.Fatal(err)
	}
	return &database{
		dialect: sqlcache.MariaDB,
		driver:  "mysql",
		dsn: func(addr string) string {
			config := mysql.NewConfig()
			config.User, config.DBName = "root", "test"
			config.Net, config.Addr = "tcp", addr
			if set != nil {
				set(config)
			}
			return config.FormatDSN()
		},
		addr:   server.Addr(),
		server: server,
	}
}

// sqlite does not wait for its disk.
func sqlite(t *testing.T, pragmas ...string) *database {
	t.Helper()
	parameters := "?_pragma=synchronous(OFF)"
	for _, pragma := range pragmas {
		parameters += "&_pragma=" + pragma
	}
	file := filepath.ToSlash(filepath.Join(t.TempDir(), "certs.db"))
	return &database{
		dialect: sqlcache.SQLite,
		driver:  "sqlite",
		dsn:     func(string) string { return "file:" + file + parameters },
	}
}

// open opens the database with connections of its own.
func (d *database) open(t *testing.T) *sql.DB { return d.openAt(t, d.addr) }

// openAt opens the database behind an address, such as that of a proxy.
func (d *database) openAt(t *testing.T, addr string) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.driver, d.dsn(addr))
	if err != nil {
		t.Fatal(err)
	}
	return pool(t, db)
}

// pool gives a database the settings that users are told.
func pool(t *testing.T, db *sql.DB) *sql.DB {
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(8)
	return db
}

// prefix returns a prefix for tables that no other test has.
func (d *database) prefix() string { return fmt.Sprintf("t%d_", d.tables.Add(1)) }

// cache returns a cache with tables of its own, and the prefix of their names.
func (d *database) cache(t *testing.T) (*sqlcache.Cache, string) {
	t.Helper()
	prefix := d.prefix()
	c := d.machine(t, d.open(t), prefix)
	if err := c.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, prefix
}

// machine returns a cache with existing tables, as another machine has it.
func (d *database) machine(t *testing.T, db *sql.DB, prefix string) *sqlcache.Cache {
	t.Helper()
	c, err := sqlcache.New(db, d.dialect, sqlcache.TablePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// store returns tables of their own for a suite.
func (d *database) store(t *testing.T) *cachetest.Store {
	t.Helper()
	_, prefix := d.cache(t)
	pools := make(map[cache.Cache]*sql.DB)
	store := &cachetest.Store{
		Open: func(t *testing.T) cache.Cache {
			db := d.open(t)
			c := d.machine(t, db, prefix)
			pools[c] = db
			return c
		},
		Drop: func(t *testing.T, c cache.Cache) {
			if err := pools[c].Close(); err != nil {
				t.Error(err)
			}
		},
	}
	if d.server != nil && d.addr == d.server.Addr() { // see testOutage
		store.Hang = func(*testing.T) (resume func()) {
			d.server.Pause()
			return d.server.Continue
		}
	}
	return store
}

// An execer is a database, or a transaction.
type execer interface {
	Exec(string, ...any) (sql.Result, error)
}

// exec runs a statement of a test's own.
func exec(t *testing.T, db execer, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
