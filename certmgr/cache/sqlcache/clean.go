package sqlcache

import (
	"context"
	"sync"
	"time"
)

const (
	// cleanInterval is how often a process looks for rows of locks that nobody has
	// unlocked.
	cleanInterval = time.Hour

	// maxCleaned is how many of them it removes at a time, between two of its own
	// calls of Unlock. If there were so many, it goes on with the next Unlock.
	maxCleaned = 16
)

// A cleaner tells when to look for rows of dead holders. The zero cleaner says at
// once.
type cleaner struct {
	mu   sync.Mutex // protects next
	next time.Time  // when to look again
}

// due reports whether it is time to look, which is then true for one caller.
func (c *cleaner) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.next) {
		return false
	}
	c.next = now.Add(cleanInterval)
	return true
}

// again makes the next caller look.
func (c *cleaner) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = time.Time{}
}

// clean removes some rows of leases that ended more than a day ago: their holders
// have died, and nobody has locked the names since, which may have been chosen by
// strangers. The rows are looked for by a statement that locks none, and removed
// one by one by their key, so that nobody waits for this who has another lock.
//
// It is no part of what the caller has asked for, so its errors are not reported.
// Those of a database that is down are, by the calls that need it.
func (c *Cache) clean(ctx context.Context) {
	if !c.cleaner.due() {
		return
	}
	names, err := c.expired(ctx)
	for _, name := range names {
		if err == nil {
			err = c.do(ctx, func() error {
				_, err := c.db.ExecContext(ctx, c.statements.remove, name)
				return err
			})
		}
	}
	if err == nil && len(names) == maxCleaned {
		c.cleaner.again()
	}
}

// expired returns the names of up to maxCleaned locks whose rows can be removed.
func (c *Cache) expired(ctx context.Context) (names []string, err error) {
	err = c.do(ctx, func() error {
		names = nil
		rows, err := c.db.QueryContext(ctx, c.statements.expired, maxCleaned)
		return each(rows, err, func() error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
			return nil
		})
	})
	return names, err
}
