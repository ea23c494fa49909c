package certmgr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

// leases are the locks of the Cache, and those that this process has.
type leases struct {
	*env
	store  *store // told how calls went
	locker cache.Locker
	local  bool             // see isLocal
	owner  string           // of this machine's leases, as others see it
	calls  *flight.Callouts // of Lock, Extend and Unlock, by the name of the lock

	mu      sync.Mutex
	held    map[string]*heldLease // by the name of the lock
	trouble lockTrouble
}

// newLeases returns the locks of the Cache, or nil if it has none.
func (e *engine) newLeases(s *store) *leases {
	if !e.settings.isFleet() {
		return nil
	}
	locker, _ := cache.LockerOf(e.settings.cache)
	_, local := cache.As[cache.Dir](e.settings.cache)
	return &leases{
		env:    e.env,
		local:  local,
		store:  s,
		locker: locker,
		owner:  fmt.Sprintf("%s (pid %d)", e.settings.machine, os.Getpid()),
		calls:  e.callout("Cache.Lock", maxWrites).FailFast(cacheTimeout),
		held:   make(map[string]*heldLease),
	}
}

// lockTrouble is the calls of Lock that have failed since one worked. A single name
// may be one that the store cannot lock: that is no trouble of the others. leases.mu
// guards it.
type lockTrouble struct {
	err   error
	at    time.Time // the last failure, by the monotonic clock; zero if the last call worked
	names []string  // the first different ones, up to storeDownKeys
}

// isAbout reports whether it keeps a name from being locked.
func (t *lockTrouble) isAbout(name string) bool {
	return len(t.names) >= storeDownKeys || slices.Contains(t.names, name)
}

// lockName returns the name of the lock for the issuances of a subject: one for
// both key types, and that of its first name for a group.
func lockName(sub subject) string { return entryKey(sub.host(), "+issue") }

// errNoLocks: the Cache has the methods of a cache.Locker, and its store has no locks.
var errNoLocks = errors.New("the Cache has no locks")

// lock takes a lock of the Cache. The error is a *cache.HeldError or errNoLocks, or
// wraps ErrCache. The lease is not older than began.
func (b *leases) lock(ctx context.Context, name string) (lease cache.Lease, began time.Time, err error) {
	if err := b.failedLately(name); err != nil {
		return nil, time.Time{}, err
	}
	timed, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	began = time.Now()
	lease, err = flight.CallOut(timed, b.calls, name, func(ctx context.Context) (cache.Lease, error) {
		// The end of the issuance does not interrupt this: a lock that nobody
		// knows of would keep the others waiting.
		in, cancel := context.WithTimeout(context.WithoutCancel(ctx), cacheTimeout)
		defer cancel()
		lease, err := b.locker.Lock(in, name, b.owner, b.settings.lease)
		held, isHeld := errors.AsType[*cache.HeldError](err)
		switch {
		case isHeld && held == nil: // its methods would panic
			return nil, errors.New("the method Lock returned a nil *cache.HeldError as its error")
		case err == nil && lease == nil:
			return nil, errors.New("the method Lock returned neither a lease nor an error")
		case err == nil && ctx.Err() != nil:
			unlockLate(ctx, lease)
			return nil, ctx.Err()
		}
		return lease, err
	})
	if err == nil {
		b.noteLock(name, nil)
		return lease, began, nil
	}
	if held, ok := errors.AsType[*cache.HeldError](err); ok {
		b.noteLock(name, nil)
		return nil, time.Time{}, held
	}
	if errors.Is(err, errors.ErrUnsupported) {
		b.warnings.warn("the store of Manager.Cache has no locks (its Lock returned errors.ErrUnsupported, as Dir's does if the file " +
			"system has no locks of files, or cannot be written): each process issues for itself; several that share it need a store with locks")
		return nil, time.Time{}, errNoLocks
	}
	err = &refusal{kind: ErrCache, text: fmt.Sprintf("taking the lock %q; no order is placed that another machine may be placing", name), cause: err}
	if ctx.Err() == nil {
		b.noteLock(name, err)
	}
	return nil, time.Time{}, err
}

// unlockLate ends a lease that nobody waits for any more, within a call that took too
// long.
func unlockLate(ctx context.Context, l cache.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cacheTimeout)
	defer cancel()
	l.Unlock(ctx)
}

// failedLately returns the error of the last call of Lock if that has just failed,
// and several names cannot be locked, or this one cannot. So a store that is down
// costs a call from time to time, and not one for each host.
func (b *leases) failedLately(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trouble.at.IsZero() || time.Since(b.trouble.at) >= failedFor || !b.trouble.isAbout(name) {
		return nil
	}
	return b.trouble.err
}

// noteLock notes whether the Cache can lock.
func (b *leases) noteLock(name string, err error) {
	b.mu.Lock()
	if t := &b.trouble; err == nil {
		*t = lockTrouble{}
	} else {
		t.err, t.at = err, time.Now()
		if !t.isAbout(name) {
			t.names = append(t.names, name)
		}
	}
	b.mu.Unlock()
	if err == nil {
		b.store.works()
		return
	}
	b.store.report(name, audit.Event{Kind: audit.CacheReadFailed, Host: hostOfKey(name), Err: err})
}
