package rediscache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// lease is a lock that was taken. It is never changed.
type lease struct {
	cache *Cache
	name  string
	owner string
	id    string // random; no two leases have the same one
	token int64
}

// Lock implements [cache.Locker].
func (c *Cache) Lock(ctx context.Context, name, owner string, ttl time.Duration) (cache.Lease, error) {
	if err := cache.CheckLock(name, owner, ttl); err != nil {
		return nil, err
	}
	l := &lease{cache: c, name: name, owner: owner, id: newID()}
	reply, err := await(ctx, func() ([]any, error) {
		return lockScript.Run(ctx, c.client, []string{l.key(), c.tokenKey()}, l.id, owner, milliseconds(ttl)).Slice()
	})
	if err != nil {
		return nil, failed("lock", name, err)
	}
	if len(reply) == 3 {
		return nil, held(name, l.key(), reply)
	}
	if len(reply) == 1 {
		text, _ := reply[0].(string)
		if l.token, err = strconv.ParseInt(text, 10, 64); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("rediscache: lock %q: the server's reply makes no sense", name)
}

// newID returns the identity of a new lease.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// milliseconds returns d in the unit of the server, rounded up.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// held returns the error of Lock for a lock that somebody else has.
func held(name, key string, reply []any) error {
	value, _ := reply[1].(string)
	remaining, _ := reply[2].(int64)
	parts := strings.SplitN(value, " ", 3)
	if len(parts) != 3 || remaining < 0 {
		// Nobody would ever end it.
		return fmt.Errorf("rediscache: lock %q: the key %q of the server is not a lock with an expiry, so something else has written it: delete it", name, key)
	}
	return &cache.HeldError{
		Name:      name,
		Owner:     parts[2],
		Remaining: time.Duration(remaining) * time.Millisecond,
	}
}

// key returns the server's key of the lock.
func (l *lease) key() string { return l.cache.lockKey(l.name) }

// value returns what the key has as long as the lease has the lock.
func (l *lease) value() string {
	return strconv.FormatInt(l.token, 10) + " " + l.id + " " + l.owner
}

// Token implements [cache.Lease].
func (l *lease) Token() int64 { return l.token }

// Extend implements [cache.Lease].
func (l *lease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := cache.CheckLock(l.name, l.owner, ttl); err != nil {
		return err
	}
	kept, err := await(ctx, func() (bool, error) {
		return extendScript.Run(ctx, l.cache.client, []string{l.key()}, l.value(), milliseconds(ttl)).Bool()
	})
	return l.outcome("extend the lock", kept, err)
}

// Unlock implements [cache.Lease].
func (l *lease) Unlock(ctx context.Context) error {
	kept, err := await(ctx, func() (bool, error) {
		return unlockScript.Run(ctx, l.cache.client, []string{l.key()}, l.value()).Bool()
	})
	return l.outcome("unlock", kept, err)
}

// outcome returns the error of Extend or Unlock.
func (l *lease) outcome(what string, kept bool, err error) error {
	switch {
	case err != nil:
		return failed(what, l.name, err)
	case !kept:
		return fmt.Errorf("rediscache: %s %q: %w", what, l.name, cache.ErrLost)
	}
	return nil
}
