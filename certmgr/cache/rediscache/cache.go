package rediscache

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/nostall/nostall/certmgr/cache"
)

// Options are the settings of a [Cache]. The zero value is ready for use.
type Options struct {
	// Prefix keeps the cache apart from what else the server stores, and from other
	// caches. "certmgr" if empty. All keys begin with "{", Prefix and "}:". It has
	// letters, digits and the characters '.', '_', '-', '/' and ':', and at most 100
	// of them. All machines of a fleet have the same one.
	Prefix string
}

const (
	defaultPrefix = "certmgr"
	maxPrefix     = 100
)

// Cache is a [cache.Cache] on a Redis server, with the abilities [cache.Locker],
// [cache.Lister], [cache.BatchGetter] and [cache.Watcher]. [New] makes one. It is
// safe for concurrent use, and needs no Close: the client is its owner's.
type Cache struct {
	client   redis.UniversalClient
	prefix   string // of all keys, with the hash tag
	watchers watchers
}

var (
	_ cache.Cache       = (*Cache)(nil)
	_ cache.Locker      = (*Cache)(nil)
	_ cache.Lister      = (*Cache)(nil)
	_ cache.BatchGetter = (*Cache)(nil)
	_ cache.Watcher     = (*Cache)(nil)
)

// New returns a cache on the server, or the cluster, of a client: one of
// redis.NewClient, redis.NewFailoverClient, redis.NewClusterClient or
// redis.NewUniversalClient. It connects to nothing. The caller closes the client,
// after everything that uses the cache.
//
// It is an error if the prefix is not allowed, if the client waits for replies
// without a limit, or if it is of another type than these return. A redis.Ring
// sends keys elsewhere when a server fails, so that entries would seem to be
// missing, and a wrapper may hide a cluster. Instrument a client by its AddHook.
func New(client redis.UniversalClient, o Options) (*Cache, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if err := checkPrefix(o.Prefix); err != nil {
		return nil, err
	}
	if err := checkClient(client); err != nil {
		return nil, err
	}
	return &Cache{client: client, prefix: "{" + o.Prefix + "}:"}, nil
}

func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("rediscache: Options.Prefix has %d characters, and at most %d are allowed", len(prefix), maxPrefix)
	}
	for _, r := range prefix {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '.', r == '_', r == '-', r == '/', r == ':':
		default:
			return fmt.Errorf("rediscache: Options.Prefix is %q: only letters, digits and . _ - / : are allowed", prefix)
		}
	}
	return nil
}

func checkClient(client redis.UniversalClient) error {
	var limited bool
	switch client := client.(type) {
	case *redis.Client:
		limited = client.Options().ReadTimeout > 0 && client.Options().WriteTimeout > 0
	case *redis.ClusterClient:
		limited = client.Options().ReadTimeout > 0 && client.Options().WriteTimeout > 0
	default:
		return fmt.Errorf("rediscache: the client is a %T: use that of a single server, of sentinels or of a cluster", client)
	}
	if !limited {
		return errors.New("rediscache: the client's ReadTimeout or WriteTimeout is off, so a server that hangs would keep its connections: set them, or leave them 0 for go-redis's default")
	}
	return nil
}

// entryKey returns the server's key of an entry, lockKey that of a lock. One hash
// tag keeps all of them in one slot of a cluster.
func (c *Cache) entryKey(key string) string { return c.prefix + entryPart + key }
func (c *Cache) lockKey(name string) string { return c.prefix + "lock:" + name }
func (c *Cache) tokenKey() string           { return c.prefix + "token" }

// entryPart is between the prefix and the name of an entry.
const entryPart = "entry:"

// Get implements [cache.Cache].
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	values, err := c.get(ctx, []string{key})
	if err != nil {
		return nil, failed("get", key, err)
	}
	if values[0] == nil {
		return nil, fmt.Errorf("rediscache: get %q: %w", key, cache.ErrMiss)
	}
	return values[0], nil
}

// get returns the values of entries. Those without an entry are nil.
func (c *Cache) get(ctx context.Context, keys []string) ([][]byte, error) {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = c.entryKey(key)
	}
	replies, err := await(ctx, func() ([]any, error) { return getScript.Run(ctx, c.client, full).Slice() })
	if err != nil {
		return nil, err
	}
	if len(replies) != len(keys) {
		return nil, fmt.Errorf("the server returned %d values for %d keys", len(replies), len(keys))
	}
	values := make([][]byte, len(keys))
	for i, reply := range replies {
		switch reply := reply.(type) {
		case nil:
		case string:
			values[i] = append([]byte{}, reply...) // an empty value is not nil
		default:
			return nil, fmt.Errorf("the server returned a %T in place of a value", reply)
		}
	}
	return values, nil
}

// Put implements [cache.Cache]. Under [cache.Guard] it fails with
// [cache.ErrLost] if the lease has ended. After any other error that comes from
// the network or from ctx, the entry may have been stored or not, and a server
// that hung may yet store it.
func (c *Cache) Put(ctx context.Context, key string, data []byte) error {
	// A copy, since the client may still be sending it after ctx has ended.
	return c.change(ctx, "put", key, putScript, append([]byte{}, data...))
}

// Delete implements [cache.Cache]. Leases and errors are those of [Cache.Put].
func (c *Cache) Delete(ctx context.Context, key string) error {
	return c.change(ctx, "delete", key, deleteScript)
}

// change runs putScript or deleteScript on an entry, under the lease of ctx.
func (c *Cache) change(ctx context.Context, what, key string, script *redis.Script, value ...any) error {
	keys, held := []string{c.entryKey(key)}, ""
	if l := cache.Guarded(ctx); l != nil {
		own, ok := l.(*lease)
		if !ok || own.cache.prefix != c.prefix {
			return fmt.Errorf("rediscache: %s %q: the lease in the context is not one of this cache", what, key)
		}
		keys, held = append(keys, own.key()), own.value()
	}
	args := append([]any{c.channel(), key, held}, value...)
	done, err := await(ctx, func() (bool, error) { return script.Run(ctx, c.client, keys, args...).Bool() })
	switch {
	case err != nil:
		return failed(what, key, err)
	case !done:
		return fmt.Errorf("rediscache: %s %q under a lease: %w", what, key, cache.ErrLost)
	}
	return nil
}
