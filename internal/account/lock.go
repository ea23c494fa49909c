package account

import (
	"context"
	"fmt"
)

// Lock takes a lock that all machines with the same Store share. It waits while
// another machine has the lock, with a bound of its own.
//
// The context that it returns is for all that is done under the lock, above all
// for the calls of the Store, which may tell by it that the lock was lost. It
// ends when the lock is lost. unlock must be called once.
type Lock func(ctx context.Context) (locked context.Context, unlock func(), err error)

// underLock calls f under the lock, if there is one. The turn is held. That the
// lock cannot be had, or is lost meanwhile, is not the CA's fault.
func underLock[T any](ctx context.Context, lock Lock, f func(ctx context.Context) (T, error)) (T, error) {
	if lock == nil {
		return f(ctx)
	}
	locked, unlock, err := lock(ctx)
	if err != nil {
		var none T
		return none, unavailable{err: fmt.Errorf("account: %w", err)}
	}
	defer unlock()
	v, err := f(locked)
	if err != nil && locked.Err() != nil && ctx.Err() == nil {
		err = unavailable{err: fmt.Errorf("account: %w: %w", context.Cause(locked), err)}
	}
	return v, err
}

// sharedLock returns the lock of a Registrar's machines, or nil. The user's own
// key needs none: registering it twice leads to the same account.
func sharedLock(cfg Config) Lock {
	if cfg.Store == nil || cfg.Key != nil {
		return nil
	}
	return cfg.Lock
}
