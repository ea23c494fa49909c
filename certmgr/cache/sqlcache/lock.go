package sqlcache

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// maxTakes is how often Lock tries to take a lock that was free when it looked.
const maxTakes = 3

// row is the row of a lock.
type row struct {
	token         int64
	holder, owner string
	remaining     time.Duration // until the lease ends; not positive if it has
}

// Lock implements [cache.Locker]. In the owner, what is no text is replaced by
// question marks.
//
// The token is the time of the server in microseconds since 1970. If the row of the
// lease before is still there, because nobody has unlocked it, the token is at least
// one more than that one's. So the tokens of a name increase unless the server's
// clock is set back after the row was deleted, by more time than passes until the
// name is locked again. In SQLite they are a counter of the table, and always
// increase. Fencing does not depend on the clock: a random number that no other lease
// has is compared too, so that a lease which has ended stays lost.
func (c *Cache) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	if err := cache.CheckLock(name, owner, ttl); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("sqlcache: lock %q: the name is not allowed: %w", name, err)
	}
	l, err := c.lock(ctx, name, plainText(owner), ttl)
	var held *cache.HeldError
	switch {
	case errors.As(err, &held):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("sqlcache: lock %q: %w", name, err)
	}
	return l, nil
}

func (c *Cache) lock(ctx context.Context, name, owner string, ttl time.Duration) (*lease, error) {
	l := &lease{cache: c, name: name, holder: rand.Text()}
	var last row
	for range maxTakes {
		// Those who find the lock taken, often and on many machines, write nothing.
		r, err := c.row(ctx, c.statements.look, name)
		if err == nil && r.remaining > 0 {
			return nil, &cache.HeldError{Name: name, Owner: r.owner, Remaining: r.remaining}
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		r, err = c.take(ctx, l, owner, ttl)
		switch {
		case err == nil && r.holder == l.holder:
			l.token = r.token
			return l, nil
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return nil, err
		}
		last = r
	}
	return nil, &cache.HeldError{Name: name, Owner: last.owner, Remaining: max(last.remaining, 0)}
}

// take takes the lock of l if it is free. It returns the row of whoever has it then,
// or [sql.ErrNoRows].
//
// A token that is a time has to be read while the row is there. The statement that
// makes the row has read the clock before: another machine may have taken the lock
// since then and given it back, and would have the larger token. So the statement is
// run twice. Tokens of SQLite are no times.
func (c *Cache) take(ctx context.Context, l *lease, owner string, ttl time.Duration) (row, error) {
	args := []any{l.name, l.holder, owner, ttl.Microseconds()}
	r, err := c.row(ctx, c.statements.take, args...)
	if err != nil || r.holder != l.holder || c.dialect == SQLite {
		return r, err
	}
	return c.row(ctx, c.statements.take, args...)
}

// row runs a query whose result is the row of a lock.
func (c *Cache) row(ctx context.Context, query string, args ...any) (row, error) {
	var r row
	err := c.do(ctx, func() error {
		var micros int64
		err := c.db.QueryRowContext(ctx, query, args...).Scan(&r.token, &r.holder, &r.owner, &micros)
		r.remaining = time.Duration(micros) * time.Microsecond
		return err
	})
	return r, err
}

// A lease is known by its token, and by a random number, since a server whose clock
// was set back may give a token twice. Its fields are never changed.
type lease struct {
	cache  *Cache
	name   string
	holder string
	token  int64
}

var _ cache.Lease = (*lease)(nil)

func (l *lease) Token() int64 { return l.token }

func (l *lease) Extend(ctx context.Context, ttl time.Duration) error {
	if ttl < cache.MinLease {
		return fmt.Errorf("sqlcache: extend the lease of %q: by %v, and %v is the shortest", l.name, ttl, cache.MinLease)
	}
	if err := l.update(ctx, l.cache.statements.extend, ttl.Microseconds(), l.name, l.token, l.holder); err != nil {
		return fmt.Errorf("sqlcache: extend the lease of %q: %w", l.name, err)
	}
	return nil
}

// Unlock implements [cache.Lease]. It deletes the row of the lock. Now and then it
// removes some rows of other locks too, which nobody has unlocked for a day after
// their leases ended.
func (l *lease) Unlock(ctx context.Context) error {
	if err := l.update(ctx, l.cache.statements.unlock, l.name, l.token, l.holder); err != nil {
		return fmt.Errorf("sqlcache: unlock %q: %w", l.name, err)
	}
	l.cache.clean(ctx)
	return nil
}

// update runs a statement that changes the row of the lease while it has its lock.
func (l *lease) update(ctx context.Context, statement string, args ...any) error {
	var rows int64
	err := l.cache.do(ctx, func() error {
		var err error
		rows, err = affected(l.cache.db.ExecContext(ctx, statement, args...))
		return err
	})
	if err == nil && rows == 0 {
		return cache.ErrLost
	}
	return err
}

// check returns [cache.ErrLost] unless the lease has its lock.
func (l *lease) check(ctx context.Context) error {
	r, err := l.cache.row(ctx, l.cache.statements.look, l.name)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case err != nil || r.token != l.token || r.holder != l.holder || r.remaining <= 0:
		return cache.ErrLost
	}
	return nil
}

// plainText replaces what databases do not take for text.
func plainText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}
