package sqlcache_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	_ "modernc.org/sqlite"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

// openSQLite returns a cache in a file, for the processes of one machine.
func openSQLite(ctx context.Context, file string) (*sqlcache.Cache, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(file)+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	store, err := sqlcache.New(db, sqlcache.SQLite)
	if err != nil {
		return nil, err
	}
	return store, store.CreateTables(ctx)
}

// openPostgreSQL returns a cache that several machines share. The DSN works behind
// PgBouncer too.
func openPostgreSQL(ctx context.Context, host string) (*sqlcache.Cache, error) {
	db, err := sql.Open("pgx", "postgres://certs@"+host+"/certs?default_query_exec_mode=exec")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetConnMaxIdleTime(5 * time.Minute)
	store, err := sqlcache.New(db, sqlcache.PostgreSQL)
	if err != nil {
		return nil, err
	}
	return store, store.CreateTables(ctx)
}

// A server with autocert issues a certificate, and one with certmgr serves it from
// the same database.
func Example() {
	dir, err := os.MkdirTemp("", "sqlcache")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := openSQLite(context.Background(), filepath.Join(dir, "certs.db"))
	if err != nil {
		log.Fatal(err)
	}
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	hello := &tls.ClientHelloInfo{
		ServerName:       "example.com",
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
	}

	theirs := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      store,
		HostPolicy: autocert.HostWhitelist("example.com"),
		Client:     &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	ca.Resolve("example.com", acmetest.Target{TLSConfig: theirs.TLSConfig()})
	first, err := theirs.GetCertificate(hello)
	if err != nil {
		log.Fatal(err)
	}

	ours := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  store,
		Hosts:  certmgr.MustAllowlist("example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer ours.Close()
	second, err := ours.GetCertificate(hello)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same certificate:", first.Leaf.Equal(second.Leaf))
	fmt.Println("orders:", ca.Count(acmetest.NewOrder))
	// Output:
	// the same certificate: true
	// orders: 1
}
