package rediscache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// errChanged is the error of Keys when other processes answered meanwhile.
var errChanged = errors.New("a server was restarted or replaced meanwhile: list the keys again")

const (
	// scanCount is how many keys the server looks at for each request. It stands
	// still meanwhile, for well under a millisecond.
	scanCount = 1000

	// getCount is how many entries GetMany reads in a request.
	getCount = 100
)

// Keys implements [cache.Lister]. It looks at each key of the server, also those
// of other programs, in steps that do not hold up others. If a server is restarted
// or replaced meanwhile, the list ends with an error.
func (c *Cache) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		servers, before, err := c.primaries(ctx)
		seen := make(map[string]bool) // SCAN may return a key twice
		for _, server := range servers {
			var goOn bool
			if goOn, err = c.scan(ctx, server, seen, yield); !goOn {
				return
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			var after []string
			if _, after, err = c.primaries(ctx); err == nil && !slices.Equal(before, after) {
				err = errChanged
			}
		}
		if err != nil {
			yield("", failed("list the keys", "", err))
		}
	}
}

// scan yields the keys of entries on a server. It returns false if the loop was
// left.
func (c *Cache) scan(ctx context.Context, server redis.UniversalClient, seen map[string]bool, yield func(string, error) bool) (goOn bool, _ error) {
	type page struct {
		keys []string
		next uint64
	}
	prefix := c.entryKey("")
	for cursor := uint64(0); ; {
		p, err := await(ctx, func() (page, error) {
			// No character of a prefix means anything in a pattern.
			keys, next, err := server.Scan(ctx, cursor, prefix+"*", scanCount).Result()
			return page{keys, next}, err
		})
		if err != nil {
			return true, err
		}
		for _, full := range p.keys {
			key := strings.TrimPrefix(full, prefix)
			if seen[key] {
				continue
			}
			seen[key] = true
			if !yield(key, nil) {
				return false, nil
			}
		}
		if cursor = p.next; cursor == 0 {
			return true, nil
		}
	}
}

// primaries returns clients of all servers that may have entries, and what
// identifies their processes, sorted. A cursor of SCAN means nothing to another
// process.
func (c *Cache) primaries(ctx context.Context) (servers []redis.UniversalClient, identities []string, err error) {
	type found struct {
		servers    []redis.UniversalClient
		identities []string
	}
	f, err := await(ctx, func() (f found, err error) {
		var mu sync.Mutex // protects f
		err = c.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
			info, err := information(ctx, server)
			if err == nil && info["role"] != "master" {
				err = fmt.Errorf("a server has the role %q, and not that of a primary", info["role"])
			}
			mu.Lock()
			defer mu.Unlock()
			f.servers = append(f.servers, server)
			f.identities = append(f.identities, info["run_id"])
			return err
		})
		slices.Sort(f.identities)
		return f, err
	})
	return f.servers, f.identities, err
}

// eachPrimary calls f for the single server, or for each primary of a cluster at
// the same time: while a slot is moved, two of them have entries.
func (c *Cache) eachPrimary(ctx context.Context, f func(context.Context, redis.UniversalClient) error) error {
	if cluster, ok := c.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error { return f(ctx, server) })
	}
	return f(ctx, c.client)
}

// information returns the fields of INFO.
func information(ctx context.Context, server redis.UniversalClient) (map[string]string, error) {
	text, err := server.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// GetMany implements [cache.BatchGetter].
func (c *Cache) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	values := make(map[string][]byte, len(keys))
	for batch := range slices.Chunk(keys, getCount) {
		found, err := c.get(ctx, batch)
		if err != nil {
			return values, failed(fmt.Sprintf("get %d entries", len(keys)), "", err)
		}
		for i, value := range found {
			if value != nil {
				values[batch[i]] = value
			}
		}
	}
	return values, nil
}
