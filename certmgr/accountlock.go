package certmgr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/flight"
)

// accountLock is the lock under which one machine of a fleet at a time registers
// the account, or changes its key or its contact.
type accountLock struct{ *leases }

const (
	// accountLockSpare is how much longer than a lease a machine waits for another
	// one that registers or changes the account, which takes a second or two: a dead
	// one keeps it locked for the time of a lease.
	accountLockSpare = 10 * time.Second

	// accountLockPoll is the shortest wait before the next try to lock it, and the
	// longest one is twice that.
	accountLockPoll = 250 * time.Millisecond
)

// newAccountLock returns the lock of the account, or nil if the Cache has none.
func (e *engine) newAccountLock() account.Lock {
	if e.leases == nil {
		return nil
	}
	return accountLock{e.leases}.lock
}

// name returns the name of the lock: CAs have one each.
func (l accountLock) name() string {
	sum := sha256.Sum256([]byte(l.dir))
	return "account+" + hex.EncodeToString(sum[:8])
}

// lock is account.Lock.
func (l accountLock) lock(ctx context.Context) (locked context.Context, unlock func(), err error) {
	lease, err := l.await(ctx)
	if err != nil {
		return nil, nil, err
	}
	locked, cancel := lease.attempt(ctx)
	return locked, func() {
		cancel()
		lease.release()
	}, nil
}

// await takes the lease, and waits for a machine that has it.
func (l accountLock) await(ctx context.Context) (*heldLease, error) {
	ctx, cancel := context.WithTimeout(ctx, l.settings.lease+accountLockSpare)
	defer cancel()
	for {
		lease, err := l.takeNamed(ctx, l.name())
		held, ok := errors.AsType[*cache.HeldError](err)
		if !ok {
			return lease, err
		}
		if flight.Sleep(ctx, accountLockPoll+rand.N(accountLockPoll)) != nil {
			return nil, fmt.Errorf("it is being registered or changed elsewhere, by %s: %w", held.Owner, err)
		}
	}
}
