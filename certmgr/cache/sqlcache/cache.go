package sqlcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/nostall/nostall/certmgr/cache"
)

// A Cache keeps entries and locks in two tables of a database. It is safe for
// concurrent use, and does not close the database. Caches with the same tables,
// in any number of processes, have the same entries and locks.
type Cache struct {
	db         *sql.DB
	dialect    Dialect
	prefix     string
	statements *statements
	cleaner    cleaner
}

var (
	_ cache.Cache       = (*Cache)(nil)
	_ cache.Locker      = (*Cache)(nil)
	_ cache.Lister      = (*Cache)(nil)
	_ cache.BatchGetter = (*Cache)(nil)
)

// An Option of [New] changes a default.
type Option func(*Cache)

// DefaultPrefix is what the names of the tables begin with.
const DefaultPrefix = "nostall_"

// TablePrefix sets what the names of the tables begin with, in place of
// [DefaultPrefix]: lower-case letters, digits and underscores, and before them the
// name of a schema and a dot if need be, as in "acme.nostall_".
func TablePrefix(prefix string) Option {
	return func(c *Cache) { c.prefix = prefix }
}

// New returns a cache in a database of the given kind. It does not connect to it:
// call [Cache.CreateTables] or [Cache.Check] next. It returns an error if the
// dialect or an option is not valid.
func New(db *sql.DB, dialect Dialect, options ...Option) (*Cache, error) {
	c := &Cache{db: db, dialect: dialect, prefix: DefaultPrefix}
	for _, option := range options {
		option(c)
	}
	if !validPrefix.MatchString(c.prefix) {
		return nil, fmt.Errorf("sqlcache: the table prefix %q is not valid: want up to 40 lower-case letters, "+
			"digits and underscores, after the name of a schema and a dot if need be", c.prefix)
	}
	var err error
	c.statements, err = statementsOf(dialect, c.prefix)
	return c, err
}

var validPrefix = regexp.MustCompile(`^(?:[a-z_][a-z0-9_]{0,39}\.)?[a-z_][a-z0-9_]{0,39}$`)

// maxName is the largest length of a key or the name of a lock, in bytes. Keys of
// certmgr are shorter. A database would cut off a longer one, or not index it.
const maxName = 512

// checkName returns an error for a key, or the name of a lock, that not every
// database keeps as it is.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > maxName:
		return fmt.Errorf("it has %d bytes, and at most %d are allowed", len(name), maxName)
	case strings.IndexByte(name, 0) >= 0:
		return errors.New("it has a zero byte")
	}
	return nil
}

// Get implements [cache.Cache].
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	var data []byte
	err := c.entry(ctx, key, func() error {
		return c.db.QueryRowContext(ctx, c.statements.get, key).Scan(&data)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, cache.ErrMiss
	case err != nil:
		return nil, fmt.Errorf("sqlcache: get %q: %w", key, err)
	case data == nil:
		data = []byte{}
	}
	return data, nil
}

// Put implements [cache.Cache]. Under [cache.Guard] the context's lease must be one
// of this Cache.
func (c *Cache) Put(ctx context.Context, key string, data []byte) error {
	if data == nil {
		data = []byte{} // nil would be NULL
	}
	err := c.change(ctx, key, change{
		plain:   c.statements.put,
		guarded: c.statements.putGuarded,
		args:    []any{key, data},
	})
	if err != nil {
		return fmt.Errorf("sqlcache: put %q: %w", key, c.explainSize(ctx, err, len(data)))
	}
	return nil
}

// Delete implements [cache.Cache]. Under [cache.Guard] the context's lease must be
// one of this Cache.
func (c *Cache) Delete(ctx context.Context, key string) error {
	err := c.change(ctx, key, change{
		plain:   c.statements.delete,
		guarded: c.statements.deleteGuarded,
		args:    []any{key},
	})
	if err != nil {
		return fmt.Errorf("sqlcache: delete %q: %w", key, err)
	}
	return nil
}

// change is a change of an entry: two statements, whose arguments begin with args
// and of which the guarded one has those of the lease after them.
type change struct {
	plain, guarded string
	args           []any
}

// change changes the entry of a key, under the lease of the context if there is
// one.
func (c *Cache) change(ctx context.Context, key string, change change) error {
	guard := cache.Guarded(ctx)
	if guard == nil {
		return c.entry(ctx, key, func() error {
			_, err := c.db.ExecContext(ctx, change.plain, change.args...)
			return err
		})
	}
	l, ok := guard.(*lease)
	if !ok || l.cache != c {
		return errors.New("the lease of the context is not one of this cache")
	}
	var rows int64
	err := c.entry(ctx, key, func() error {
		var err error
		rows, err = affected(c.db.ExecContext(ctx, change.guarded, append(change.args, l.name, l.token, l.holder)...))
		return err
	})
	if err != nil || rows > 0 {
		return err
	}
	// Either the lease had ended, or there was nothing to change: a lease that has
	// its lock now had it then.
	return l.check(ctx)
}

// entry makes an access to the entry of a key.
func (c *Cache) entry(ctx context.Context, key string, access func() error) error {
	if err := checkName(key); err != nil {
		return fmt.Errorf("the key is not allowed: %w", err)
	}
	return c.do(ctx, access)
}

// affected returns the number of rows that a statement has affected.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
