package fleet

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/rediscache"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
	"github.com/nostall/nostall/internal/servertest"
)

// storeKind is a kind of store.
type storeKind string

const (
	onPostgres storeKind = "PostgreSQL"
	onMariaDB  storeKind = "MariaDB"
	onRedis    storeKind = "Redis"
	onSQLite   storeKind = "SQLite"
	onDir      storeKind = "Dir"

	fullKind = onPostgres // the one for which every stage is in the document
)

// kinds returns all of them.
func kinds() []storeKind { return []storeKind{onPostgres, onMariaDB, onRedis, onSQLite, onDir} }

// can reports whether a store can have a fault: one without a server cannot be
// restarted or cut off.
func (k storeKind) can(f fault) bool { return !f.stores || k != onSQLite && k != onDir }

// short reports whether the fault is tried on the store without -fleet.all too.
func (k storeKind) short(f fault, stages []stage) bool {
	return stages[0] != atAccount && f.takenOver && (k == onPostgres || k == onDir && !f.survived)
}

// storeConfig is where a machine's entries are.
type storeConfig struct {
	Kind     storeKind
	Source   string // the address of a server, a directory or a file
	Password string // of Redis
}

// store is a store that runs for a test.
type store struct {
	direct  storeConfig         // for the test
	of      []storeConfig       // for each machine
	server  server              // nil if there is none
	proxies []*servertest.Proxy // of each machine, if there is a server
}

// server is a server that can be restarted.
type server interface {
	Stop()
	Start()
}

// redisServer is one too.
type redisServer struct{ *servertest.Redis }

func (r redisServer) Start() { r.Restart() }

// startStore starts a store for so many machines.
func startStore(t *testing.T, kind storeKind, machines int) *store {
	t.Helper()
	s := &store{direct: storeConfig{Kind: kind}}
	switch kind {
	case onPostgres:
		postgres := servertest.StartPostgres(t)
		s.server, s.direct.Source = postgres, postgres.Addr()
	case onMariaDB:
		mariadb := servertest.StartMariaDB(t)
		s.server, s.direct.Source = mariadb, mariadb.Addr()
	case onRedis:
		s.direct.Source = servertest.FreeAddr(t)
		_, port, err := net.SplitHostPort(s.direct.Source)
		if err != nil {
			t.Fatal(err)
		}
		redis := servertest.StartRedis(t, "--port", port)
		s.server, s.direct.Password = redisServer{redis}, redis.Password
	case onSQLite:
		s.direct.Source = filepath.Join(t.TempDir(), "store.db")
	case onDir:
		s.direct.Source = t.TempDir()
	}
	for range machines {
		of := s.direct
		if s.server != nil {
			p := servertest.StartProxy(t, s.direct.Source)
			s.proxies = append(s.proxies, p)
			of.Source = p.Addr()
		}
		s.of = append(s.of, of)
	}
	return s
}

// cut keeps a machine from the store, as a firewall does that drops packets.
func (s *store) cut(machine int) { s.proxies[machine].Blackhole() }

// delay makes every answer of the store come later.
func (s *store) delay(d time.Duration) {
	for _, p := range s.proxies {
		p.Delay(d / 2) // there and back
	}
}

// mend ends both.
func (s *store) mend() {
	for _, p := range s.proxies {
		p.Heal()
	}
}

// open opens the store, as a user's program does.
func (c storeConfig) open() (cache.Cache, error) {
	switch c.Kind {
	case onPostgres:
		return c.openSQL("pgx", servertest.PostgresURL(c.Source, "postgres", "default_query_exec_mode=exec"), sqlcache.PostgreSQL)
	case onMariaDB:
		return c.openSQL("mysql", "root@tcp("+c.Source+")/test?interpolateParams=true", sqlcache.MariaDB)
	case onSQLite:
		return c.openSQL("sqlite", "file:"+c.Source+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)", sqlcache.SQLite)
	case onRedis:
		client := redis.NewClient(&redis.Options{Addr: c.Source, Password: c.Password, ContextTimeoutEnabled: true})
		return rediscache.New(client, rediscache.Options{})
	case onDir:
		return cache.Dir(c.Source), nil
	}
	return nil, fmt.Errorf("no store is called %q", c.Kind)
}

// openSQL opens a database, and creates the tables if there are none.
func (c storeConfig) openSQL(driver, source string, dialect sqlcache.Dialect) (cache.Cache, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	store, err := sqlcache.New(db, dialect)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return store, store.CreateTables(ctx)
}
