// Package sqlcache is a [cache.Cache] in PostgreSQL, MariaDB or SQLite, which
// several machines can share: it is a [cache.Locker], a [cache.Lister] and a
// [cache.BatchGetter] too.
//
// Open the database with the driver of your choice, and give it to [New]. The
// package imports no driver. It was tested with
//
//   - PostgreSQL 15 and github.com/jackc/pgx/v5/stdlib, also through PgBouncer,
//   - MariaDB 10.11 and github.com/go-sql-driver/mysql,
//   - SQLite 3 and modernc.org/sqlite.
//
// There are two tables. [Cache.CreateTables] creates them, and [Cache.DDL] returns
// the statements for those who do it themselves.
//
// # What is guaranteed
//
// Every operation is one statement, or a few (Lock) of which each is a transaction of
// its own. A machine that stops in the middle of one, for whatever reason, keeps nothing locked in
// the database, and no state of a session is used: no prepared statement by name,
// no temporary table, no advisory lock, no setting.
//
// Locks are rows with the time at which the lease ends, by the clock of the
// database server, with a token that grows with each lease of a name, and with a
// random number that no other lease has. A Put or Delete under [cache.Guard]
// compares the row of its lease in the same statement that changes the entry, so
// that a machine whose lease has ended changes nothing.
//
// Unlock deletes the row. That of a machine that died stays until the name is locked
// again, or for a day: then the Unlock of some other lock removes it. So names that
// strangers choose, if a policy allows any, leave no rows behind.
//
// Tokens need no row: they are the server's time, or SQLite counts them. Writes do
// not depend on that clock, see [Cache.Lock].
//
// All of that is as durable as the server's commits are. If they are lost, with a
// server that fails over to a replica that lags behind, or one that does not wait
// for its disk (synchronous_commit, innodb_flush_log_at_trx_commit), then entries,
// leases and tokens are lost too, and two machines may believe that they have the
// same lock. No such machine can write after its successor's lease has begun on
// the new server, since its random number is not there.
//
// # Settings of the database
//
// Give the cache a pool of its own, with [sql.DB.SetMaxOpenConns] at about 8: a
// lease must be extended even if the program's other queries use up their
// connections. Set [sql.DB.SetConnMaxIdleTime] to a few minutes, less than the
// time after which a firewall, PgBouncer or the server (wait_timeout) ends idle
// connections. Every machine must reach the primary server: a replica may not know
// yet what was stored, and a miss leads to an order at the CA.
//
// PostgreSQL: behind PgBouncer in transaction or statement mode, pgx must not
// prepare statements by name. Add to the DSN
//
//	default_query_exec_mode=exec
//
// Otherwise [Cache.Check] and other calls fail with an error that says so. It
// costs nothing to set it always. PgBouncer 1.18 may end when a context does, since
// pgx then asks the server to cancel the statement (pgbouncer/pgbouncer#801): use a
// newer one, or have it restarted.
//
// MariaDB: with interpolateParams=true in the DSN, each statement takes one round
// trip in place of two. A value and its statement must fit into the server's
// max_allowed_packet (16 MiB by default; interpolation may need twice the size).
// Machines that use different nodes of a Galera cluster do not exclude each
// other: let all of them use the same one.
//
// SQLite: it is for the processes of one machine, whose clock is the server's, and
// its file must not be on a network file system. Open it with
//
//	file:certs.db?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)
//
// and protect the file: keys are in it. A database in memory must be limited to
// one connection.
//
// Values hold private keys. Use TLS to the server, and [cache.Encrypted] so that
// the database and its backups have no key in the clear.
package sqlcache
