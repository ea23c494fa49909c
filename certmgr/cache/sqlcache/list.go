package sqlcache

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
)

const (
	// pageSize is how many keys a query lists.
	pageSize = 1000

	// batchSize is how many entries a query reads: some 10 kB each.
	batchSize = 200
)

// Keys implements [cache.Lister]. It uses no connection while the loop's body
// runs.
func (c *Cache) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := ""
		for {
			page, err := c.page(ctx, last)
			if err != nil {
				yield("", fmt.Errorf("sqlcache: list the keys: %w", err))
				return
			}
			for _, last = range page {
				if !yield(last, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// page returns the first keys after last.
func (c *Cache) page(ctx context.Context, last string) ([]string, error) {
	var keys []string
	err := c.do(ctx, func() error {
		keys = nil
		rows, err := c.db.QueryContext(ctx, c.statements.keys, last, pageSize)
		return each(rows, err, func() error {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			keys = append(keys, key)
			return nil
		})
	})
	return keys, err
}

// GetMany implements [cache.BatchGetter].
func (c *Cache) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	values := make(map[string][]byte, len(keys))
	for _, key := range keys {
		if err := checkName(key); err != nil {
			return values, fmt.Errorf("sqlcache: get many: the key %q is not allowed: %w", key, err)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), batchSize)
		if err := c.batch(ctx, keys[:n], values); err != nil {
			return values, fmt.Errorf("sqlcache: get %d entries: %w", n, err)
		}
		keys = keys[n:]
	}
	return values, nil
}

// batch reads up to batchSize entries into values. The statement is always the
// same, however many they are, for the sake of servers and drivers that remember
// statements: the last key fills it up.
func (c *Cache) batch(ctx context.Context, keys []string, values map[string][]byte) error {
	args := make([]any, batchSize)
	for i := range args {
		args[i] = keys[min(i, len(keys)-1)]
	}
	return c.do(ctx, func() error {
		rows, err := c.db.QueryContext(ctx, c.many(batchSize), args...)
		return each(rows, err, func() error {
			var key string
			var data []byte
			if err := rows.Scan(&key, &data); err != nil {
				return err
			}
			if data == nil {
				data = []byte{}
			}
			values[key] = data
			return nil
		})
	})
}

// each calls read for each row of a query, and closes the rows.
func each(rows *sql.Rows, err error, read func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return rows.Close()
}
