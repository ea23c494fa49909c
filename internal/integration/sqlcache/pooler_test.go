package sqlcache_test

import (
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/servertest"
)

// Behind PgBouncer, a driver that prepares statements by name fails when the
// program starts, with an error that says what to set, not under load.
func TestPgBouncerWithPreparedStatements(t *testing.T) {
	server := servertest.StartPostgres(t)
	for _, setting := range []string{"default_pool_size = 4", "default_pool_size = 1", "server_round_robin = 1"} {
		bouncer := servertest.StartPgBouncer(t, server, setting)
		d := postgreSQLAt(server, bouncer.Addr()) // with pgx's default mode
		for _, call := range []string{"CreateTables", "Check"} {
			c := d.machine(t, d.open(t), "check_")
			check := c.Check
			if call == "CreateTables" {
				check = c.CreateTables
			}
			if err := check(t.Context()); err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
				t.Errorf("%s: %s: error %v, want one that says how to set up the driver", setting, call, err)
			}
		}
	}
}

// What the README does works, with a user and a database as it says, also through
// PgBouncer.
func TestReadmeOpensPostgreSQL(t *testing.T) {
	server := servertest.StartPostgres(t)
	db := postgreSQLAt(server, server.Addr()).open(t)
	exec(t, db, "CREATE ROLE certs LOGIN")
	exec(t, db, "CREATE DATABASE certs OWNER certs")
	for _, addr := range []string{server.Addr(), servertest.StartPgBouncer(t, server).Addr()} {
		store, err := openPostgreSQL(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), "key", []byte("value")); err != nil {
			t.Error(err)
		}
	}
}
