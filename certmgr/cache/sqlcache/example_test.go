package sqlcache_test

import (
	"context"
	"database/sql"
	"log"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// Several servers share their certificates in PostgreSQL. The driver is that of
// github.com/jackc/pgx/v5/stdlib, which the program imports.
func Example() {
	db, err := sql.Open("pgx", "postgres://certs@db.example.com/certs?sslmode=verify-full&default_query_exec_mode=exec")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	db.SetConnMaxIdleTime(5 * time.Minute)
	store, err := sqlcache.New(db, sqlcache.PostgreSQL)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := store.CreateTables(ctx); err != nil {
		log.Fatal(err)
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  store,
		Hosts:  certmgr.MustAllowlist("example.org", "www.example.org"),
	}
	defer m.Close()
}

// A server that still uses autocert can share the entries, though not the locks.
func ExampleCache() {
	db, err := sql.Open("mysql", "certs@tcp(db.example.com)/certs?tls=true&interpolateParams=true")
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlcache.New(db, sqlcache.MariaDB)
	if err != nil {
		log.Fatal(err)
	}
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      store,
		HostPolicy: autocert.HostWhitelist("example.org", "www.example.org"),
	}
	_ = m.TLSConfig()
}

// DDL is for those who change their databases with a tool of their own.
func ExampleCache_DDL() {
	store, err := sqlcache.New(nil, sqlcache.PostgreSQL, sqlcache.TablePrefix("acme.certs_"))
	if err != nil {
		log.Fatal(err)
	}
	log.Print(store.DDL())
}
