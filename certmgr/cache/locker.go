package cache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Locker is the ability of a [Cache] to lock names for all machines that use its
// store. certmgr takes the lock of a host for the time of an order, so that a
// fleet orders once. Find it with [LockerOf], since the cache may be wrapped. A
// Cache without it works too: its machines order for themselves.
//
// A lock is a lease: it ends by itself, by the clock of the store and not by
// that of a machine. So the lock of a machine that died is free again soon. One
// that was paused cannot know that its lease has ended, so the lock alone does
// not keep it from writing. The fencing token does: each lease of a name has a
// larger token than the one before, and the store compares it when an entry is
// written under [Guard].
//
// An implementation keeps two promises:
//   - Exclusion: a name has one lease at a time. Taking it is one step of the
//     store (a transaction, a script, a conditional write), never a read and then
//     a write.
//   - Fencing: with a context of [Guard], Put and Delete change an entry only if
//     the lease still has the lock, and otherwise fail with [ErrLost] and leave
//     the entry alone. The comparison and the change are one step. A store that
//     cannot compare the lock in that step (an object store) keeps the token in
//     the entry's metadata: it may let a lost lease write until its successor
//     has written the entry, and never after that.
//
// Where the token of a lock is kept is the store's own affair (a column, a
// metadata field, a script's key). Entries have the same bytes with and without
// a lease, since autocert may read them.
//
// A Locker keeps entries of all keys. certmgr does not go on with an order whose
// entry it refuses, since another machine could not finish that.
//
// A Locker and its leases are safe for concurrent use.
type Locker interface {
	// Lock takes the lock of a name, for ttl from now on. It does not wait: if
	// the lock is taken, the error is a [*HeldError]. Any other error says that
	// the store cannot tell. The lock may then have been taken all the same, and
	// is free again after ttl. An error that wraps [errors.ErrUnsupported] says that
	// this store has no locks, and certmgr then does without.
	//
	// A name consists of the characters of keys and is no key: the entry of the
	// same name is not affected. The owner is text for operators, of at most
	// [MaxOwner] bytes: which machine and process. Two leases may have the same
	// one. A ttl below [MinLease] is an error.
	Lock(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error)
}

// Lease is a lock that was taken. It ends when it is unlocked, or ttl after it
// was taken or last extended.
type Lease interface {
	// Token returns the fencing token. It is at least 1, and larger than that of
	// every earlier lease of the name.
	Token() int64

	// Extend makes the lease end ttl from now, be that later or earlier than
	// before. If it has ended already, the error wraps [ErrLost], even if nobody
	// else has the lock. A ttl below [MinLease] is an error, and the lease goes on
	// as before. After any other error it may have been extended or not.
	Extend(ctx context.Context, ttl time.Duration) error

	// Unlock ends the lease. If it has ended already, the error wraps [ErrLost],
	// and whoever has the lock now keeps it.
	Unlock(ctx context.Context) error
}

const (
	// MinLease is the shortest time for which a lock can be taken.
	MinLease = time.Second

	// MaxOwner is the largest length of an owner, in bytes.
	MaxOwner = 200
)

// ErrLost is wrapped by the errors of a [Lease], and of Put and Delete under
// [Guard], when the lease has ended. Somebody else may have the lock.
var ErrLost = errors.New("the lease has ended")

// HeldError is the error of [Locker.Lock] when another lease has the lock.
type HeldError struct {
	Name  string
	Owner string // of the lease that has the lock

	// Remaining is how long that lease lasts, by the store's clock, if it is not
	// extended. It is not negative.
	Remaining time.Duration
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("cache: lock %q: held by %q for the next %v", e.Name, e.Owner, e.Remaining.Round(time.Millisecond))
}

// LockerOf returns the [Locker] of c: c itself, or the first one of what it
// wraps. A wrapper that changes values keeps the ability, since a lease takes
// effect in the context of its Put, which goes through the wrapper.
func LockerOf(c Cache) (Locker, bool) { return As[Locker](c) }

type leaseKey struct{}

// Guard returns a context for Put and Delete that change an entry only while the
// lease has its lock. It must be a lease of the store that they end up in.
func Guard(ctx context.Context, l Lease) context.Context {
	return context.WithValue(ctx, leaseKey{}, l)
}

// Guarded returns the lease of a context of [Guard], or nil. Implementations of
// [Locker] call it in Put and Delete: a lease that is not their own is an error.
// A cache that is no Locker need not.
func Guarded(ctx context.Context) Lease {
	l, _ := ctx.Value(leaseKey{}).(Lease)
	return l
}

// errForeign is the error of Put and Delete under [Guard] with a lease that is not
// one of their store.
var errForeign = errors.New("the lease of cache.Guard is not one of this cache")

// CheckLock returns an error if the arguments of [Locker.Lock] are not allowed.
// Implementations call it first, and in [Lease.Extend].
func CheckLock(name, owner string, ttl time.Duration) error {
	switch {
	case name == "":
		return errors.New("cache: lock: the name is empty")
	case len(owner) > MaxOwner:
		return fmt.Errorf("cache: lock %q: the owner has %d bytes, and at most %d are allowed", name, len(owner), MaxOwner)
	case ttl < MinLease:
		return fmt.Errorf("cache: lock %q: the lease is to last %v, and %v is the shortest", name, ttl, MinLease)
	}
	return nil
}
