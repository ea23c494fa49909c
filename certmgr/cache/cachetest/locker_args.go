package cachetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

func checkNamesAreNoKeys(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	const name, missing = "www.example.com", "other.example.com"
	if err := put(ctx, a, name, valueOf(name)); err != nil {
		return err
	}
	var leases []cache.Lease
	for _, n := range []string{name, missing} {
		l, err := a.lock(ctx, n, long)
		if err != nil {
			return err
		}
		leases = append(leases, l)
	}
	if err := expect(ctx, b, name, valueOf(name)); err != nil {
		return fmt.Errorf("after the name of the entry was locked: %w", err)
	}
	if err := expectMiss(ctx, b, missing); err != nil {
		return fmt.Errorf("after the name was locked: %w", err)
	}
	if l, ok := cache.As[cache.Lister](b.Cache); ok {
		if err := expectKeys(ctx, l, []string{name}); err != nil {
			return fmt.Errorf("with two locks and one entry: %w", err)
		}
	}
	for _, n := range []string{name, missing} {
		if err := put(ctx, b, n, []byte("another value")); err != nil {
			return err
		}
		if err := b.Delete(ctx, n); err != nil {
			return fmt.Errorf("Delete(%q): %w", n, err)
		}
		if err := b.expectHeld(ctx, n, a.name); err != nil {
			return fmt.Errorf("after Put and Delete of the entry of that name: %w", err)
		}
	}
	if err := put(ctx, b, name, valueOf(name)); err != nil {
		return err
	}
	for _, l := range leases {
		if err := l.Unlock(ctx); err != nil {
			return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
		}
	}
	if err := expectMiss(ctx, b, missing); err != nil {
		return fmt.Errorf("after Unlock of the name: %w", err)
	}
	return expect(ctx, b, name, valueOf(name))
}

func checkNamesApart(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	names := append(slices.Clone(keys), "EXAMPLE.COM", "tOk-en_1+http-01", strings.ToUpper(keys[len(keys)-2]))
	leases := make([]cache.Lease, len(names))
	for i, name := range names {
		if leases[i], err = a.lock(ctx, name, long); err != nil {
			return fmt.Errorf("when others are locked: %w", err)
		}
	}
	for i, name := range names {
		if err := leases[i].Unlock(ctx); err != nil {
			return fmt.Errorf("Unlock of %q: %w", name, err)
		}
		for _, other := range names[i+1:] {
			if err := b.expectHeld(ctx, other, a.name); err != nil {
				return fmt.Errorf("after Unlock of %q: %w", name, err)
			}
		}
	}
	return nil
}

func checkArguments(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what, name, owner string
		ttl               time.Duration
	}{
		{"an empty name", "", "owner", long},
		{"an owner that is too long", key, strings.Repeat("o", cache.MaxOwner+1), long},
		{"a ttl that is too short", key, "owner", cache.MinLease - 1},
		{"a ttl of zero", key, "owner", 0},
		{"a negative ttl", key, "owner", -long},
	} {
		_, err := a.locker.Lock(ctx, c.name, c.owner, c.ttl)
		if err == nil {
			return fmt.Errorf("a call of Lock with %s succeeds", c.what)
		}
		if held := (*cache.HeldError)(nil); errors.As(err, &held) {
			return fmt.Errorf("a call of Lock with %s fails because the lock is taken: %w", c.what, err)
		}
	}
	l, err := a.lock(ctx, key, long)
	if err != nil {
		return fmt.Errorf("after calls with wrong arguments: %w", err)
	}
	for _, ttl := range []time.Duration{cache.MinLease - 1, 0, -long} {
		if err := l.Extend(ctx, ttl); err == nil || errors.Is(err, cache.ErrLost) {
			return fmt.Errorf("Extend(%v) of a lease that has its lock: the error is %v, want one that is not cache.ErrLost", ttl, err)
		}
		if err := b.expectHeld(ctx, key, a.name); err != nil {
			return fmt.Errorf("after Extend(%v): %w", ttl, err)
		}
	}
	return nil
}

// notAsked checks an error of a call whose context has ended.
func notAsked(err error) error {
	if held := (*cache.HeldError)(nil); errors.As(err, &held) {
		return fmt.Errorf("the error is a *cache.HeldError: %w", err)
	}
	for _, wrong := range []error{cache.ErrLost, cache.ErrMiss} {
		if errors.Is(err, wrong) {
			return fmt.Errorf("the error is %q: %w", wrong, err)
		}
	}
	return nil
}

func checkEndedContexts(ctx context.Context, f *fleet) error {
	m, err := f.machine("machine")
	if err != nil {
		return err
	}
	n := 0
	fresh := func() string { // a name that is not locked
		n++
		return fmt.Sprintf("host-%d.example.com", n)
	}
	err = obeys(ctx, func(ended context.Context) error {
		_, err := m.locker.Lock(ended, fresh(), m.name, long)
		return err
	}, notAsked)
	if err != nil {
		return fmt.Errorf("calling Lock: %w", err)
	}
	l, err := m.lock(ctx, key, long)
	if err != nil {
		return err
	}
	if err := obeys(ctx, func(ended context.Context) error { return l.Extend(ended, long) }, notAsked); err != nil {
		return fmt.Errorf("Extend: %w", err)
	}
	old := []byte("the old value")
	if err := put(cache.Guard(ctx, l), m, key, old); err != nil {
		return err
	}
	err = obeys(ctx, func(ended context.Context) error {
		return m.Put(cache.Guard(ended, l), key, []byte("the value of a Put that was cancelled"))
	}, func(err error) error {
		if kept := expect(ctx, m, key, old); kept != nil {
			return kept
		}
		return notAsked(err)
	})
	if err != nil {
		return fmt.Errorf("a Put under guard: %w", err)
	}
	if err := obeys(ctx, func(ended context.Context) error { return m.Delete(cache.Guard(ended, l), key) }, notAsked); err != nil {
		return fmt.Errorf("a Delete under guard: %w", err)
	}
	err = obeys(ctx, func(ended context.Context) error {
		l, err := m.lock(ctx, fresh(), long)
		if err != nil {
			return fmt.Errorf("%w: %w", cache.ErrMiss, err) // fails the case
		}
		return l.Unlock(ended)
	}, notAsked)
	if err != nil {
		return fmt.Errorf("Unlock: %w", err)
	}
	return nil
}

// hangTime is how long a call waits for a store that hangs, and hangLimit when
// it has not returned.
const (
	hangTime  = 300 * time.Millisecond
	hangLimit = 30 * time.Second
)

func checkHangingStore(ctx context.Context, f *fleet) error {
	m, err := f.machine("machine")
	if err != nil {
		return err
	}
	l, err := m.lock(ctx, key, long)
	if err != nil {
		return err
	}
	other, err := m.lock(ctx, "other.example.com", long)
	if err != nil {
		return err
	}
	resume := f.store.Hang(f.t)
	err = func() error {
		defer resume()
		for what, call := range map[string]func(ctx context.Context) error{
			"Lock": func(ctx context.Context) error {
				_, err := m.locker.Lock(ctx, "www.example.com", m.name, long)
				return err
			},
			"Extend": func(ctx context.Context) error { return l.Extend(ctx, long) },
			"Unlock": other.Unlock,
			"Put":    func(ctx context.Context) error { return m.Put(cache.Guard(ctx, l), key, []byte("value")) },
			"Delete": func(ctx context.Context) error { return m.Delete(cache.Guard(ctx, l), "www.example.com") },
		} {
			if err := endsWithContext(ctx, call); err != nil {
				return fmt.Errorf("%s while the store hangs: %w", what, err)
			}
		}
		return nil
	}()
	if err != nil {
		return err
	}
	for begun := time.Now(); ; {
		if err = l.Extend(ctx, long); err == nil {
			return nil
		}
		if time.Since(begun) > hangLimit {
			return fmt.Errorf("Extend of a lease that has its lock, long after the store answers again: %w", err)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// endsWithContext requires a call to fail soon after its context has ended.
func endsWithContext(ctx context.Context, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, hangTime)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	limit := time.NewTimer(hangLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		if err == nil {
			return errors.New("the call succeeds")
		}
		return notAsked(err)
	case <-limit.C:
		return fmt.Errorf("the call has not returned %v after the end of its context", hangLimit)
	}
}
