package certmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/text"
)

// fleet is what the machines that share a Cache with locks do together: of all of
// them, one issues for a host, under a lease of the Cache. The others follow it.
// Without such a Cache there is none (nil), and each machine issues for itself.
type fleet struct {
	*env
	leases   *leases
	store    *store
	health   *health
	loader   *loader
	orders   *orderStore
	follower *follower
}

// newFleet returns the fleet, or nil if the Cache has no locks.
func (e *engine) newFleet(s *store, h *health, l *loader, o *orderStore) *fleet {
	if e.leases == nil {
		return nil
	}
	return &fleet{
		env:      e.env,
		leases:   e.leases,
		store:    s,
		health:   h,
		loader:   l,
		orders:   o,
		follower: newFollower(e.env, e.callout("Cache.Get of many", 1).FailFast(cacheTimeout)),
	}
}

// failedLately returns why the Cache could not lock a subject a moment ago, or nil.
func (f *fleet) failedLately(sub subject) error {
	if f == nil {
		return nil
	}
	return f.leases.failedLately(lockName(sub))
}

// alone calls do under the lock of a subject, so that its writes do not meet those of an
// issuance of another machine. The error is a *cache.HeldError if there is one.
func (f *fleet) alone(ctx context.Context, sub subject, do func(context.Context) error) error {
	if f == nil {
		return do(ctx)
	}
	lease, err := f.leases.take(ctx, sub)
	if err != nil {
		return err
	}
	defer lease.release()
	return do(lease.guard(ctx))
}

// takeToLook takes the lock of a host's issuances for a look at where the host leads:
// the CA and such a look are answered by the same entry of the Cache. The lease is nil
// if there is no fleet, or an error.
func (f *fleet) takeToLook(ctx context.Context, sub subject) (*heldLease, error) {
	if f == nil {
		return nil, nil
	}
	if g := f.settings.hosts.group(sub.host()); g != nil {
		sub = f.groupSubject(g, sub.alg)
	}
	return f.leases.take(ctx, sub)
}

// maxOwnerShown is how much of the owner of another machine's lease is shown, in
// bytes.
const maxOwnerShown = 100

// guarded returns ctx with the lease under which of is, if there is one: for writes
// that a task makes for an issuance.
func guarded(ctx, of context.Context) context.Context {
	if l := cache.Guarded(of); l != nil {
		return cache.Guard(ctx, l)
	}
	return ctx
}

// isLost reports whether a write was not made because its lease has ended. That is
// no failure of the Cache.
func isLost(err error) bool { return errors.Is(err, cache.ErrLost) }

// elsewhere is why an issuance waits: another machine has the lock.
type elsewhere struct {
	refusal *refusal // for those who ask meanwhile
	owner   string
	again   time.Duration // after which this machine tries to take the lock
	until   time.Time     // the end of the other machine's lease, by the clock here
}

func (e *elsewhere) Error() string { return e.refusal.Error() }
func (e *elsewhere) Unwrap() error { return e.refusal }

// newElsewhere returns the error for an issuance that did not get the lock.
func (f *fleet) newElsewhere(sub subject, held *cache.HeldError) *elsewhere {
	left := max(min(held.Remaining, maxRemaining), 0)
	e := &elsewhere{
		owner: text.OneLine(held.Owner, maxOwnerShown),
		again: min(left, lockAgain),
		until: f.now().Add(left),
	}
	who := "another machine, " + e.owner + ","
	if held.Owner == f.leases.owner {
		who = "this machine, by a lock that it could not release,"
	}
	e.refusal = &refusal{
		kind: ErrInFlight,
		host: sub.host(),
		text: fmt.Sprintf("%s issues the %s certificate; if it stops, this machine takes over %s", who, sub.alg, text.Stamp(e.until)),
	}
	return e
}

const (
	// lockAgain is how often a machine that follows another one tries to take the
	// lock: that one may have failed, and released it. Sooner if its lease ends.
	lockAgain = 5 * time.Second

	// maxRemaining is the longest time that another machine's lease is taken to
	// last.
	maxRemaining = time.Hour
)
