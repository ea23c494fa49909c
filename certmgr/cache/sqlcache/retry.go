package sqlcache

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// maxTries is how often a statement is run that others are in the way of. All
	// waits together take about a second.
	maxTries = 8

	// firstWait is the longest wait before the second try. Each further one may
	// last twice as long.
	firstWait = 10 * time.Millisecond
)

// do makes an access to the database, again if the database has rolled it back
// because of a conflict, until the context ends. Errors say what to do, and there
// is no sql.ErrNoRows under a context that has ended.
func (c *Cache) do(ctx context.Context, access func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		err := ctx.Err()
		if err == nil {
			err = access()
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, sql.ErrNoRows):
			// It may be the driver's result of a query that was cancelled.
			if ended := ctx.Err(); ended != nil {
				return ended
			}
			return err
		case try == maxTries || c.dialect.meaningOf(err) != conflict || !sleep(ctx, rand.N(wait)):
			return c.explain(ctx, err)
		}
		wait *= 2
	}
}

// sleep waits for d, and returns false if the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
