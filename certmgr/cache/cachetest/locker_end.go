package cachetest

import (
	"context"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// expectEnded requires Extend and Unlock to fail with ErrLost, in either order.
func expectEnded(ctx context.Context, l cache.Lease, when string) error {
	for range 2 {
		if err := expectLost("Extend of a lease that has ended, "+when, l.Extend(ctx, long)); err != nil {
			return err
		}
		if err := expectLost("Unlock of a lease that has ended, "+when, l.Unlock(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func checkEndedLease(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	l, err := a.lock(ctx, key, long)
	if err != nil {
		return err
	}
	if err := l.Unlock(ctx); err != nil {
		return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
	}
	if err := expectEnded(ctx, l, "by Unlock"); err != nil {
		return err
	}
	// Nobody has the lock, so that this is not found out by a larger token.
	over, err := a.lock(ctx, key, cache.MinLease)
	if err != nil {
		return err
	}
	if err := pause(ctx, cache.MinLease+a.slack); err != nil {
		return err
	}
	if err := expectEnded(ctx, over, "by itself"); err != nil {
		return err
	}
	next, err := b.lock(ctx, key, long)
	if err != nil {
		return err
	}
	for _, ended := range []cache.Lease{l, over} {
		if err := expectEnded(ctx, ended, "when another has the lock"); err != nil {
			return err
		}
	}
	if err := a.expectHeld(ctx, key, b.name); err != nil {
		return fmt.Errorf("after Extend and Unlock of leases that had ended: %w", err)
	}
	if err := next.Extend(ctx, long); err != nil {
		return fmt.Errorf("Extend after Extend and Unlock of earlier leases: %w", err)
	}
	if err := next.Unlock(ctx); err != nil {
		return fmt.Errorf("Unlock after Extend and Unlock of earlier leases: %w", err)
	}
	_, err = a.lock(ctx, key, long)
	return err
}

func checkDeadHolder(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	const other = "other.example.com"
	if _, err := a.lock(ctx, other, long); err != nil {
		return err
	}
	before := time.Now()
	if _, err := a.lock(ctx, key, short); err != nil {
		return err
	}
	after := time.Now()
	f.store.Drop(f.t, a.Cache)
	if err := b.expectHeld(ctx, other, a.name); err != nil {
		return fmt.Errorf("after its client was cut off: %w", err)
	}
	_, err = b.lockSoon(ctx, key, before, after, short)
	return err
}

// checkClocks has one machine whose clock is wrong and one whose clock is right
// take the lock from each other.
func checkClocks(ctx context.Context, f *fleet) error {
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		wrong, err := f.wrap(f.store, f.store.OpenAt(f.t, off), fmt.Sprintf("machine at %v", off))
		if err != nil {
			return err
		}
		right, err := f.machine("machine with the right time")
		if err != nil {
			return err
		}
		for _, pair := range [][2]*machine{{wrong, right}, {right, wrong}} {
			if err := checkPair(ctx, pair[0], pair[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkPair(ctx context.Context, a, b *machine) error {
	l, err := a.lock(ctx, key, long)
	if err != nil {
		return err
	}
	if err := b.expectHeld(ctx, key, a.name); err != nil {
		return err
	}
	if err := a.Put(cache.Guard(ctx, l), key, valueOf(a.name)); err != nil {
		return fmt.Errorf("%s: Put under the guard of a lease that has its lock: %w", a.name, err)
	}
	if err := l.Extend(ctx, long); err != nil {
		return fmt.Errorf("%s: Extend of a lease that has its lock: %w", a.name, err)
	}
	if err := l.Unlock(ctx); err != nil {
		return fmt.Errorf("%s: Unlock of a lease that has its lock: %w", a.name, err)
	}
	lost, next, err := lose(ctx, a, b, key, valueOf(a.name))
	if err != nil {
		return err
	}
	if err := b.Put(cache.Guard(ctx, next), key, valueOf(b.name)); err != nil {
		return fmt.Errorf("%s: Put under the guard of a lease that has its lock: %w", b.name, err)
	}
	if err := a.expectFenced(ctx, lost, "after its successor has written", valueOf(b.name)); err != nil {
		return err
	}
	return next.Unlock(ctx)
}

// checkConcurrentLease is for the race detector as well.
func checkConcurrentLease(ctx context.Context, f *fleet) error {
	m, err := f.machine("machine")
	if err != nil {
		return err
	}
	l, err := m.lock(ctx, key, long)
	if err != nil {
		return err
	}
	token := l.Token()
	return each([]*machine{m}, 6, func(m *machine) error {
		for range 5 {
			if err := l.Extend(ctx, long); err != nil {
				return fmt.Errorf("Extend among others: %w", err)
			}
			if err := m.Put(cache.Guard(ctx, l), key, valueOf(key)); err != nil {
				return fmt.Errorf("a Put under the guard of a lease that is being extended: %w", err)
			}
			if l.Token() != token {
				return fmt.Errorf("the token of a lease changes from %d to %d", token, l.Token())
			}
		}
		return nil
	})
}
