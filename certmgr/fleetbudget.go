package certmgr

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

// How the machines of a fleet share an order budget.
const (
	// mostUnshared is how many orders a machine places that the others do not know
	// of: together they exceed the CA's limit by at most as many each.
	mostUnshared = 10

	// budgetLockMost is how long a machine waits for the lock of the budget, which
	// another one has for two calls of the Cache.
	budgetLockMost = 2 * cacheTimeout

	// budgetLockPoll is the shortest wait before the next try to lock it, and the
	// longest one is twice that.
	budgetLockPoll = 50 * time.Millisecond
)

// errUnshared: other machines are to be told of the orders placed here, before there
// are more.
var errUnshared = errors.New("the order budget is to be shared first")

// budgetFleet is what the machines of a fleet need to share a budget.
type budgetFleet struct {
	leases  *leases
	sharing chan struct{} // of capacity 1: who has put a value in it shares
}

// newBudgetFleet returns nil if there are no leases.
func newBudgetFleet(l *leases) *budgetFleet {
	if l == nil {
		return nil
	}
	return &budgetFleet{leases: l, sharing: make(chan struct{}, 1)}
}

// takeShared is take, unless other machines are to be told first: then it returns
// errUnshared.
func (b *orderBudget) takeShared(host string, s share) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isUnshared() {
		return errUnshared
	}
	return b.takeFrom(host, s)
}

// isUnshared reports whether other machines are to be told first. b.mu is held.
func (b *orderBudget) isUnshared() bool { return b.fleet != nil && b.recent >= mostUnshared }

// share tells other machines of the orders placed here, and finds out about theirs.
// One caller at a time does so for all.
func (b *orderBudget) share(ctx context.Context) error {
	select {
	case b.fleet.sharing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.fleet.sharing }()
	b.mu.Lock()
	unshared := b.isUnshared()
	b.mu.Unlock()
	if !unshared {
		return nil
	}
	return b.save(ctx)
}

// lock locks the entry with a key, and waits for a machine that has it. Writes with
// the context that it returns are made under the lock. It may be called on nil.
func (f *budgetFleet) lock(ctx context.Context, key string) (locked context.Context, unlock func(), err error) {
	if f == nil {
		return ctx, func() {}, nil
	}
	wait, cancel := context.WithTimeout(ctx, budgetLockMost)
	defer cancel()
	for {
		lease, _, err := f.leases.lock(wait, key)
		switch _, held := errors.AsType[*cache.HeldError](err); {
		case err == nil:
			return cache.Guard(ctx, lease), func() { f.leases.unlock(ctx, key, lease) }, nil
		case err == errNoLocks:
			return ctx, func() {}, nil
		case !held || flight.Sleep(wait, budgetLockPoll+rand.N(budgetLockPoll)) != nil:
			return nil, nil, err
		}
	}
}
