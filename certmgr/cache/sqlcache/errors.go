package sqlcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// meaning is what an error of a database means to this package.
type meaning int

const (
	other     meaning = iota
	conflict          // the statement was rolled back because of another one: run it again
	noTable           // a table is missing
	noSession         // the driver keeps state in a session that a pooler gives to others
	tooLarge          // the statement is larger than the server or the driver allows
	noWrites          // the server is a replica, or read-only
)

// meaningOf returns what an error means. It knows errors by their numbers, or
// where a driver does not say the number, by the text of the database, since it
// imports no driver.
func (d Dialect) meaningOf(err error) meaning {
	switch d {
	case PostgreSQL:
		// pgx and lib/pq have the method.
		var state interface{ SQLState() string }
		if !errors.As(err, &state) {
			break
		}
		if state.SQLState() == "08P01" && strings.Contains(err.Error(), "bind message supplies") {
			return noSession // the statement without a name is somebody else's
		}
		return postgresMeanings[state.SQLState()]
	case MariaDB:
		// The text of go-sql-driver's errors of the server begins so.
		var number int
		if _, failed := fmt.Sscanf(err.Error(), "Error %d", &number); failed == nil {
			return mariadbMeanings[number]
		}
		if strings.Contains(err.Error(), "packet for query is too large") {
			return tooLarge
		}
	case SQLite:
		for text, meaning := range sqliteMeanings {
			if strings.Contains(err.Error(), text) {
				return meaning
			}
		}
	}
	return other
}

// The maps are never changed.
var (
	postgresMeanings = map[string]meaning{
		"40001": conflict,  // serialization_failure
		"40P01": conflict,  // deadlock_detected
		"55P03": conflict,  // lock_not_available: the server's lock_timeout
		"42P01": noTable,   // undefined_table
		"3F000": noTable,   // invalid_schema_name
		"42P07": conflict,  // duplicate_table: IF NOT EXISTS does not help against it,
		"42710": conflict,  // duplicate_object (its type)
		"23505": conflict,  // and unique_violation (of the catalogue) at the same moment
		"42P05": noSession, // duplicate_prepared_statement
		"25006": noWrites,  // read_only_sql_transaction
	}
	mariadbMeanings = map[int]meaning{
		1213: conflict, // deadlock
		1205: conflict, // lock wait timeout
		1020: conflict, // record has changed: innodb_snapshot_isolation
		1146: noTable,  // no such table
		1153: tooLarge, // max_allowed_packet
		1290: noWrites, // read_only
	}
	sqliteMeanings = map[string]meaning{
		"database is locked":       conflict,
		"database table is locked": conflict,
		"no such table":            noTable,
		"too big":                  tooLarge,
		"readonly database":        noWrites,
	}
)

// advice is what an operator can do about an error.
func (m meaning) advice() string {
	switch m {
	case noTable:
		return "the tables are missing: call CreateTables once, or run the statements that DDL returns"
	case noSession:
		return "a pooler such as PgBouncer does not keep prepared statements: " +
			"add default_query_exec_mode=exec to the DSN of pgx, or binary_parameters=yes to that of lib/pq"
	case tooLarge:
		return "the server or the driver does not take statements of this size: see max_allowed_packet"
	case noWrites:
		return "the cache needs the primary server, and the right to write"
	case conflict:
		return "other statements of the database were in the way each time: is one of them very slow?"
	}
	return ""
}

// explain returns an error with the end of the context, which drivers do not
// always name, or with advice.
func (c *Cache) explain(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		if errors.Is(err, ended) {
			return err
		}
		return fmt.Errorf("%w: %w", ended, err)
	}
	if advice := c.dialect.meaningOf(err).advice(); advice != "" {
		return fmt.Errorf("%w: %s", err, advice)
	}
	return err
}

// largeValue is the size above which MariaDB's limit may be why a Put failed.
const largeValue = 1 << 20

// explainSize adds the server's limit to the error of a Put whose value exceeds
// it: MariaDB may end the connection, so that the error does not tell.
func (c *Cache) explainSize(ctx context.Context, err error, size int) error {
	if c.dialect != MariaDB || size < largeValue || ctx.Err() != nil || c.dialect.meaningOf(err) == tooLarge {
		return err
	}
	var limit int
	if c.db.QueryRowContext(ctx, "SELECT @@max_allowed_packet").Scan(&limit) != nil || 2*size < limit {
		return err
	}
	return fmt.Errorf("%w: the value has %d bytes, and the server's max_allowed_packet is %d: "+
		"with interpolateParams the value may need twice its size", err, size, limit)
}
