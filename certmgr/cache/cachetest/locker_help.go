package cachetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

const (
	// long is a lease that does not end within a case, on the slowest machine.
	long = time.Hour

	// short is a lease that is waited for. It is no whole number of seconds.
	short = cache.MinLease + cache.MinLease/2

	// early is how much a lease may seem to end too soon, since the clocks of the
	// store and of the test do not run alike.
	early = 50 * time.Millisecond

	// pollEvery is the pause between two attempts to get a lock.
	pollEvery = 20 * time.Millisecond
)

// lock takes a lock that must be free.
func (m *machine) lock(ctx context.Context, name string, ttl time.Duration) (cache.Lease, error) {
	l, err := m.locker.Lock(ctx, name, m.name, ttl)
	if err != nil {
		return nil, fmt.Errorf("%s: Lock(%q, %v): %w", m.name, name, ttl, err)
	}
	if l == nil {
		return nil, fmt.Errorf("%s: Lock(%q, %v) returns neither a lease nor an error", m.name, name, ttl)
	}
	return l, nil
}

// lockSoon takes the lock of a name whose lease ends ttl after a time between
// before and after, and not sooner.
func (m *machine) lockSoon(ctx context.Context, name string, before, after time.Time, ttl time.Duration) (cache.Lease, error) {
	for {
		over := time.Since(after) >= ttl+m.slack
		l, err := m.locker.Lock(ctx, name, m.name, long)
		var held *cache.HeldError
		switch {
		case err == nil && time.Since(before) < ttl-early:
			return nil, fmt.Errorf("%s: Lock(%q) succeeds %v after another lease of %v began", m.name, name, time.Since(before), ttl)
		case err == nil:
			return l, nil
		case !errors.As(err, &held):
			return nil, fmt.Errorf("%s: Lock(%q): %w", m.name, name, err)
		case over:
			return nil, fmt.Errorf("%s: Lock(%q) fails %v after a lease of %v began, which must have ended: %w",
				m.name, name, time.Since(after), ttl, err)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil, err
		}
	}
}

// lose returns a lease of a that has ended, and that of its successor b. Before
// that, a has put the entry under its guard.
func lose(ctx context.Context, a, b *machine, name string, entry []byte) (lost, next cache.Lease, err error) {
	if lost, err = a.lock(ctx, name, long); err != nil {
		return nil, nil, err
	}
	if err := a.Put(cache.Guard(ctx, lost), key, entry); err != nil {
		return nil, nil, fmt.Errorf("Put(%q) under the guard of a lease that has its lock: %w", key, err)
	}
	before := time.Now()
	if err := lost.Extend(ctx, short); err != nil {
		return nil, nil, fmt.Errorf("Extend(%v) of a lease that has its lock: %w", short, err)
	}
	next, err = b.lockSoon(ctx, name, before, time.Now(), short)
	return lost, next, err
}

// expectHeld requires the lock of a name to be taken by a machine.
func (m *machine) expectHeld(ctx context.Context, name, owner string) error {
	_, err := m.locker.Lock(ctx, name, m.name, cache.MinLease)
	var held *cache.HeldError
	if !errors.As(err, &held) {
		return fmt.Errorf("%s: Lock(%q), which %s has: the error is %v, want a *cache.HeldError", m.name, name, owner, err)
	}
	if held.Owner != owner {
		return fmt.Errorf("%s: Lock(%q), which %s has: the error names the owner %q", m.name, name, owner, held.Owner)
	}
	return nil
}

// expectLost requires an error that wraps ErrLost.
func expectLost(what string, err error) error {
	if !errors.Is(err, cache.ErrLost) {
		return fmt.Errorf("%s: the error is %v, want one that is cache.ErrLost", what, err)
	}
	return nil
}

// expectFenced requires that a lost lease of m changes nothing.
func (m *machine) expectFenced(ctx context.Context, lost cache.Lease, when string, want []byte) error {
	guarded := cache.Guard(ctx, lost)
	if err := expectLost(fmt.Sprintf("Put(%q) under the guard of a lost lease, %s", key, when),
		m.Put(guarded, key, []byte("of the lost lease"))); err != nil {
		return err
	}
	if err := m.expectEntry(ctx, want); err != nil {
		return fmt.Errorf("after Put under the guard of a lost lease, %s: %w", when, err)
	}
	if err := expectLost(fmt.Sprintf("Delete(%q) under the guard of a lost lease, %s", key, when),
		m.Delete(guarded, key)); err != nil {
		return err
	}
	if err := m.expectEntry(ctx, want); err != nil {
		return fmt.Errorf("after Delete under the guard of a lost lease, %s: %w", when, err)
	}
	return nil
}

// expectEntry requires the entry to be want, or to be missing if that is nil.
func (m *machine) expectEntry(ctx context.Context, want []byte) error {
	if want == nil {
		return expectMiss(ctx, m, key)
	}
	return expect(ctx, m, key, want)
}

// pause waits for a time, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
