package cachetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

func checkHolderWrites(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	l, err := a.lock(ctx, key, long)
	if err != nil {
		return err
	}
	guarded := cache.Guard(ctx, l)
	for i, v := range []string{"first", "a longer second value", "\x00\xff\r\n ", ""} {
		for _, k := range []string{key, "other.example.com+rsa"} {
			if err := a.Put(guarded, k, []byte(v)); err != nil {
				return fmt.Errorf("Put(%q) under the guard of a lease that has its lock: %w", k, err)
			}
			for _, m := range []*machine{a, b} {
				if err := expect(ctx, m, k, []byte(v)); err != nil {
					return fmt.Errorf("%s, after Put under guard: %w", m.name, err)
				}
			}
			if got, err := a.Get(guarded, k); err != nil || string(got) != v {
				return fmt.Errorf("Get(%q) under guard = %s, %v", k, show(got), err)
			}
		}
		// Others write without a lease: autocert does.
		if err := put(ctx, b, key, fmt.Appendf(nil, "without a lease %d", i)); err != nil {
			return err
		}
	}
	for range 2 { // the second time there is no entry
		if err := a.Delete(guarded, key); err != nil {
			return fmt.Errorf("Delete(%q) under the guard of a lease that has its lock: %w", key, err)
		}
		if err := expectMiss(ctx, b, key); err != nil {
			return fmt.Errorf("after Delete under guard: %w", err)
		}
	}
	if err := a.Put(guarded, key, []byte("once more")); err != nil {
		return fmt.Errorf("Put(%q) under guard after Delete under guard: %w", key, err)
	}
	if err := b.Delete(ctx, key); err != nil {
		return fmt.Errorf("Delete(%q) without a lease: %w", key, err)
	}
	return expectMiss(ctx, a, key)
}

func checkPausedHolder(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	lost, next, err := lose(ctx, a, b, key, []byte("of the first lease"))
	if err != nil {
		return err
	}
	want := []byte("of the second lease")
	if err := b.Put(cache.Guard(ctx, next), key, want); err != nil {
		return fmt.Errorf("Put(%q) under the guard of a lease that took over: %w", key, err)
	}
	if err := a.expectFenced(ctx, lost, "after its successor has written", want); err != nil {
		return err
	}
	if err := next.Unlock(ctx); err != nil {
		return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
	}
	if err := a.expectFenced(ctx, lost, "after its successor has written and unlocked", want); err != nil {
		return err
	}
	// The machine itself is not banned.
	again, err := a.lock(ctx, key, long)
	if err != nil {
		return err
	}
	if err := a.Put(cache.Guard(ctx, again), key, []byte("of the third lease")); err != nil {
		return fmt.Errorf("Put(%q) under the guard of a third lease: %w", key, err)
	}
	if err := a.expectFenced(ctx, lost, "when its machine has a new lease", []byte("of the third lease")); err != nil {
		return err
	}
	return b.expectFenced(ctx, next, "after Unlock and a successor's Put", []byte("of the third lease"))
}

func checkLostLease(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	want := []byte("of the first lease")
	unlocked, err := a.lock(ctx, key, long)
	if err != nil {
		return err
	}
	if err := a.Put(cache.Guard(ctx, unlocked), key, want); err != nil {
		return fmt.Errorf("Put(%q) under the guard of a lease that has its lock: %w", key, err)
	}
	if err := unlocked.Unlock(ctx); err != nil {
		return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
	}
	if err := a.expectFenced(ctx, unlocked, "after its Unlock, when nobody has the lock", want); err != nil {
		return err
	}
	over, err := a.lock(ctx, key, cache.MinLease)
	if err != nil {
		return err
	}
	if err := pause(ctx, cache.MinLease+a.slack); err != nil {
		return err
	}
	if err := a.expectFenced(ctx, over, "when its time is over and nobody has the lock", want); err != nil {
		return err
	}
	next, err := b.lock(ctx, key, long)
	if err != nil {
		return err
	}
	for _, lost := range []cache.Lease{unlocked, over} {
		if err := a.expectFenced(ctx, lost, "before its successor has written", want); err != nil {
			return err
		}
	}
	// What the successor's entry said is gone: with it, and without a lease.
	if err := b.Delete(cache.Guard(ctx, next), key); err != nil {
		return fmt.Errorf("Delete(%q) under the guard of a lease that has its lock: %w", key, err)
	}
	if err := a.expectFenced(ctx, over, "after its successor has deleted the entry", nil); err != nil {
		return err
	}
	if err := b.Put(ctx, key, []byte("without a lease")); err != nil {
		return fmt.Errorf("Put(%q) without a lease: %w", key, err)
	}
	return a.expectFenced(ctx, over, "after a Put without a lease", []byte("without a lease"))
}

// checkOneStep has one machine put in several goroutines, without a pause, while
// its lease ends and another machine takes over and puts.
func checkOneStep(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	for round := range 20 {
		l, err := a.lock(ctx, key, long)
		if err != nil {
			return err
		}
		w := &writer{written: make(chan struct{}, 1), followed: make(chan struct{}), ended: make(chan error, 1)}
		go func() {
			w.ended <- each([]*machine{a}, 4, func(a *machine) error { return w.putUntilLost(cache.Guard(ctx, l), a) })
		}()
		select {
		case <-w.written:
		case err := <-w.ended:
			return err
		}
		// The lease ends at another point of a Put each time.
		if err := pause(ctx, time.Duration(5*round)*time.Microsecond); err != nil {
			return err
		}
		want := fmt.Appendf(nil, "of the successor %d", round)
		next, err := takeOver(ctx, l, b, want)
		close(w.followed)
		if lostErr := <-w.ended; err == nil {
			err = lostErr
		}
		if err != nil {
			return err
		}
		if err := expect(ctx, a, key, want); err != nil {
			return fmt.Errorf("a Put under the guard of a lost lease took effect after its successor's: %w", err)
		}
		if err := next.Unlock(ctx); err != nil {
			return fmt.Errorf("Unlock of a lease that has its lock: %w", err)
		}
	}
	return nil
}

// takeOver ends a lease and has b take the lock and put.
func takeOver(ctx context.Context, l cache.Lease, b *machine, value []byte) (cache.Lease, error) {
	if err := l.Unlock(ctx); err != nil {
		return nil, fmt.Errorf("Unlock of a lease under whose guard an entry is put: %w", err)
	}
	next, err := b.lock(ctx, key, long)
	if err != nil {
		return nil, err
	}
	if err := b.Put(cache.Guard(ctx, next), key, value); err != nil {
		return nil, fmt.Errorf("Put(%q) under the guard of a lease that took over: %w", key, err)
	}
	return next, nil
}

// writer is a machine that is about to lose its lease.
type writer struct {
	written  chan struct{} // buffered: the first Put has succeeded
	followed chan struct{} // closed when its successor has put
	ended    chan error    // buffered
}

// putUntilLost puts until that fails, at the latest when the lease was followed.
func (w *writer) putUntilLost(guarded context.Context, m *machine) error {
	// Pauses let time pass in a bubble, and longer ones do so in few steps.
	for wait := time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		last := false
		select {
		case <-w.followed:
			last = true
		default:
		}
		err := m.Put(guarded, key, []byte("of the lease that is lost"))
		if errors.Is(err, cache.ErrLost) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("Put(%q) under the guard of a lease that ends meanwhile: %w", key, err)
		}
		if last {
			return fmt.Errorf("Put(%q) under the guard of a lost lease succeeds after its successor has written", key)
		}
		select {
		case w.written <- struct{}{}:
		default:
		}
		if err := pause(guarded, wait); err != nil {
			return err
		}
	}
}

// madeUp is a lease of no store.
type madeUp int64

func (l madeUp) Token() int64                                { return int64(l) }
func (l madeUp) Extend(context.Context, time.Duration) error { return nil }
func (l madeUp) Unlock(context.Context) error                { return nil }

func checkForeignLeases(ctx context.Context, f *fleet) error {
	m, err := f.machine("machine")
	if err != nil {
		return err
	}
	other := f.newStore(f.t)
	stranger, err := f.wrap(other, other.Open(f.t), m.name)
	if err != nil {
		return err
	}
	// The same name, owner and (in most stores) token in both.
	own, err := m.lock(ctx, key, long)
	if err != nil {
		return err
	}
	foreign, err := stranger.lock(ctx, key, long)
	if err != nil {
		return err
	}
	want := []byte("the value of the entry")
	if err := put(ctx, m, key, want); err != nil {
		return err
	}
	for what, l := range map[string]cache.Lease{
		"of another store":                    foreign,
		"that is made up":                     madeUp(1 << 60),
		"that is made up with the same token": madeUp(own.Token()),
	} {
		if m.Put(cache.Guard(ctx, l), key, []byte("another value")) == nil {
			return fmt.Errorf("Put(%q) under the guard of a lease %s succeeds", key, what)
		}
		if m.Delete(cache.Guard(ctx, l), key) == nil {
			return fmt.Errorf("Delete(%q) under the guard of a lease %s succeeds", key, what)
		}
		if err := expect(ctx, m, key, want); err != nil {
			return fmt.Errorf("after Put and Delete under the guard of a lease %s: %w", what, err)
		}
	}
	return nil
}
