package cachetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// machines opens the store as n machines.
func (f *fleet) machines(n int) ([]*machine, error) {
	var all []*machine
	for i := range n {
		m, err := f.machine(fmt.Sprintf("machine %d", i+1))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// each calls f for each machine in as many goroutines at the same time, and
// returns one of the errors.
func each(all []*machine, goroutines int, f func(m *machine) error) error {
	errs := make(chan error, len(all)*goroutines)
	for _, m := range all {
		for range goroutines {
			go func() { errs <- f(m) }()
		}
	}
	var failed error
	for range cap(errs) {
		if err := <-errs; failed == nil {
			failed = err
		}
	}
	return failed
}

func checkOneGetsIt(ctx context.Context, f *fleet) error {
	all, err := f.machines(4)
	if err != nil {
		return err
	}
	for round := range 10 {
		name := fmt.Sprintf("host-%d.example.com", round)
		var winners atomic.Int32
		err := each(all, 4, func(m *machine) error {
			_, err := m.locker.Lock(ctx, name, m.name, long)
			var held *cache.HeldError
			switch {
			case err == nil:
				winners.Add(1)
			case !errors.As(err, &held):
				return fmt.Errorf("%s: Lock(%q) among others: the error is %v, want a *cache.HeldError", m.name, name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n := winners.Load(); n != 1 {
			return fmt.Errorf("%d of 16 got the lock of %q at the same time, want one", n, name)
		}
	}
	return nil
}

func checkOneAtATime(ctx context.Context, f *fleet) error {
	all, err := f.machines(3)
	if err != nil {
		return err
	}
	const rounds, attempts = 60, 20_000
	var (
		inside, taken atomic.Int32
		last          atomic.Int64
	)
	// use is what one does with the lock.
	use := func(l cache.Lease) error {
		defer inside.Add(-1)
		if n := inside.Add(1); n > 1 {
			return fmt.Errorf("%d have the lock at the same time", n)
		}
		if before := last.Swap(l.Token()); l.Token() <= before {
			return fmt.Errorf("the token is %d, and that of an earlier lease was %d", l.Token(), before)
		}
		return pause(ctx, 100*time.Microsecond)
	}
	return each(all, 3, func(m *machine) error {
		for range attempts {
			if taken.Load() >= rounds {
				return nil
			}
			l, err := m.locker.Lock(ctx, key, m.name, long)
			if held := (*cache.HeldError)(nil); errors.As(err, &held) {
				if err := pause(ctx, time.Millisecond); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: Lock among others: %w", m.name, err)
			}
			taken.Add(1)
			if err := use(l); err != nil {
				taken.Add(rounds) // the others stop
				return err
			}
			if err := l.Unlock(ctx); err != nil {
				return fmt.Errorf("%s: Unlock among others: %w", m.name, err)
			}
		}
		return fmt.Errorf("%s: Lock among others that unlock at once: taken in each of %d attempts", m.name, attempts)
	})
}

func checkHeldError(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	owners := []string{"web-1 (process 4711)", "", `quotes "'\ %s`, "Bücher-Server, Köln", strings.Repeat("o", cache.MaxOwner)}
	for i, owner := range owners {
		name := fmt.Sprintf("host-%d.example.com", i)
		if _, err := a.locker.Lock(ctx, name, owner, long); err != nil {
			return fmt.Errorf("Lock(%q) by the owner %q: %w", name, owner, err)
		}
		// Also for the one that has it: Lock is no way to extend a lease.
		for _, m := range []*machine{a, b} {
			l, err := m.locker.Lock(ctx, name, m.name, long)
			var held *cache.HeldError
			if !errors.As(err, &held) || l != nil {
				return fmt.Errorf("%s: Lock(%q), which is taken: %v, %v, want no lease and a *cache.HeldError", m.name, name, l, err)
			}
			if held.Name != name || held.Owner != owner {
				return fmt.Errorf("Lock(%q), which %q has: the error has the name %q and the owner %q", name, owner, held.Name, held.Owner)
			}
			if held.Remaining < 0 || held.Remaining > long || held.Remaining < long/2 {
				return fmt.Errorf("Lock(%q), just taken for %v: Remaining is %v", name, long, held.Remaining)
			}
		}
	}
	return nil
}

func checkTokens(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	var last int64
	next := func(l cache.Lease, what string) error {
		if l.Token() <= last {
			return fmt.Errorf("the token of a lease %s is %d, and that of an earlier one was %d", what, l.Token(), last)
		}
		last = l.Token()
		return nil
	}
	for i := range 12 {
		m := []*machine{a, b}[i%2]
		l, err := m.lock(ctx, key, long)
		if err != nil {
			return err
		}
		if err := next(l, "after Unlock"); err != nil {
			return err
		}
		if err := l.Unlock(ctx); err != nil {
			return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
		}
	}
	before := time.Now()
	if _, err := a.lock(ctx, key, short); err != nil {
		return err
	}
	last++ // of the lease that ends by itself
	l, err := b.lockSoon(ctx, key, before, time.Now(), short)
	if err != nil {
		return err
	}
	if err := next(l, "after one that ended by itself"); err != nil {
		return err
	}
	if err := l.Unlock(ctx); err != nil {
		return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
	}
	c, err := f.machine("machine c")
	if err != nil {
		return err
	}
	if l, err = c.lock(ctx, key, long); err != nil {
		return err
	}
	return next(l, "of a client that has just connected")
}

func checkLeasesEnd(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	before := time.Now()
	if _, err := a.lock(ctx, key, short); err != nil {
		return err
	}
	_, err = b.lockSoon(ctx, key, before, time.Now(), short)
	return err
}

func checkExtend(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	// On a machine that stops for longer than the lease the first Extend is rightly
	// too late: once more with a longer one.
	ttl, tries := short, 5
	for {
		before := time.Now()
		l, err := a.lock(ctx, key, ttl)
		if err != nil {
			return err
		}
		err = l.Extend(ctx, long)
		if errors.Is(err, cache.ErrLost) && time.Since(before) >= ttl && tries > 0 {
			ttl, tries = 2*ttl, tries-1
			continue
		}
		if err != nil {
			return fmt.Errorf("Extend(%v) of a lease of %v that has its lock: %w", long, ttl, err)
		}
		if err := pause(ctx, ttl+a.slack); err != nil {
			return err
		}
		if err := b.expectHeld(ctx, key, a.name); err != nil {
			return fmt.Errorf("after the end of a lease that was extended by %v: %w", long, err)
		}
		before = time.Now()
		if err := l.Extend(ctx, short); err != nil {
			return fmt.Errorf("Extend(%v) of a lease that has its lock: %w", short, err)
		}
		if _, err := b.lockSoon(ctx, key, before, time.Now(), short); err != nil {
			return fmt.Errorf("of a lease of %v that was made to end in %v: %w", long, short, err)
		}
		return nil
	}
}
