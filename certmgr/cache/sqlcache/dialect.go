package sqlcache

import (
	"fmt"
	"strings"
)

// Dialect is the kind of a database. The zero Dialect is none.
type Dialect int

const (
	PostgreSQL Dialect = 1 + iota // 9.5 and later
	MariaDB                       // 10.5 and later; MySQL lacks INSERT ... RETURNING
	SQLite                        // 3.35 and later
)

// String returns the name of the product.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MariaDB:
		return "MariaDB"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// statements are the statements of a dialect. Each is executed by itself, and
// each has its arguments in the same order in all dialects. A time is always that
// of the server.
//
// In the source, {entries} and {locks} are the names of the tables.
type statements struct {
	createEntries, createLocks string

	get    string // key: data
	put    string // key, data
	delete string // key
	keys   string // the key to begin after, the largest number of keys: keys, in order

	// putGuarded and deleteGuarded change the entry only if the lease has its
	// lock, and keep the row of the lock as it is until they have. They affect no
	// row if it has not, and may affect none if there is nothing to change.
	putGuarded    string // key, data, name, token, holder
	deleteGuarded string // key, name, token, holder

	look string // name: token, holder, owner, microseconds until the lease ends

	// take takes the lock if it is free. If the token is a time, the statement gives
	// a new one to the holder that has the lock, see [Cache.take].
	take string // name, holder, owner, microseconds: as look, or nothing if it is taken

	extend string // microseconds, name, token, holder
	unlock string // name, token, holder: deletes the row

	// expired lists locks whose leases ended more than a day ago, in no order, and
	// remove deletes one if that is still so.
	expired string // the largest number of names: names
	remove  string // name
}

// statementsOf returns the statements for tables whose names begin with prefix.
func statementsOf(d Dialect, prefix string) (*statements, error) {
	var s statements
	switch d {
	case PostgreSQL:
		s = postgreSQL
	case MariaDB:
		s = mariaDB
	case SQLite:
		s = sqlite
	default:
		return nil, fmt.Errorf("sqlcache: unknown dialect %v: want PostgreSQL, MariaDB or SQLite", d)
	}
	names := strings.NewReplacer("{entries}", prefix+"entries", "{locks}", prefix+"locks")
	for _, statement := range []*string{
		&s.createEntries, &s.createLocks,
		&s.get, &s.put, &s.delete, &s.keys,
		&s.putGuarded, &s.deleteGuarded,
		&s.look, &s.take, &s.extend, &s.unlock, &s.expired, &s.remove,
	} {
		*statement = names.Replace(strings.TrimSpace(*statement))
	}
	return &s, nil
}

// many returns the statement that reads n entries: n keys, and their keys and
// data.
func (c *Cache) many(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT name, data FROM %sentries WHERE name IN (", c.prefix)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		if c.dialect == PostgreSQL {
			fmt.Fprintf(&b, "$%d", i+1)
		} else {
			b.WriteByte('?')
		}
	}
	b.WriteByte(')')
	return b.String()
}
