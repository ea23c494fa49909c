package certmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// heldLease is a lease that this process has, and extends as long as an issuance,
// or a write that it left to be done, uses it. A machine that was paused cannot
// know what happened meanwhile. So the lease counts as lost as soon as it may have
// ended, by one of the clocks here, however the store sees it; and it is looked at
// before each request to the CA, since the goroutine that extends it may be late.
//
// keep, release, guard, attempt, check, confirm and isLocal may be called on nil, the
// lease of a Manager whose Cache has no locks.
type heldLease struct {
	book  *leases
	name  string
	lease cache.Lease
	ended context.Context // it has, with the *lostLease as the cause, once it may have ended
	end   context.CancelCauseFunc
	done  chan struct{} // closed when nobody uses it any more
	users int           // leases.mu guards it

	mu    sync.Mutex
	taken time.Time     // by the monotonic clock; later if another issuance shares it
	since time.Duration // when it was last taken or extended, by the monotonic clock
	wall  time.Time     // the same moment by the wall clock
	lost  *lostLease    // nil while it may be relied upon
}

// lostLease is why an issuance was cut short: its lease has ended, or may have.
type lostLease struct {
	name  string
	cause error
}

func (e *lostLease) Error() string {
	return fmt.Sprintf("the lease of the lock %q was lost: %s", e.name, text.Cause(e.cause))
}

// isOwnDoing reports whether this machine gave the lease up, because the Cache
// cannot be written.
func (e *lostLease) isOwnDoing() bool {
	return errors.Is(e.cause, errNotKept) || errors.Is(e.cause, errNotPresented) || errors.Is(e.cause, errNotFound)
}

func (e *lostLease) Unwrap() []error { return []error{cache.ErrLost, e.cause} }

// errNotExtended: the machine was paused, or its store is too slow.
var errNotExtended = errors.New("it was not extended in time: this machine was paused or suspended, its clock was set, or the Cache is out of reach " +
	"or too slow for Manager.Lease")

// errTooLong: an issuance has a time limit, so that what does not return must be
// user code.
var errTooLong = errors.New("the issuance has not ended in its time")

// errNotKept: the order's private key is not in the Cache, which is a condition for
// asking for its certificate.
var errNotKept = errors.New("the order could not be written to the Cache, so that no other machine could finish it")

// errNotPresented: the CA may reach another machine, which has to find the answer.
var errNotPresented = errors.New("the answer to the CA's challenge could not be written to the Cache, where other machines look for it")

// errNotFound: the CA has refused the answer of another machine, or of none, while the
// Cache was out of reach.
var errNotFound = errors.New("the CA's validation failed while the Cache, in which other machines find the answer, was out of reach")

// take takes the lease for an issuance of sub. One that this process still has for
// an earlier certificate of the host is shared.
func (b *leases) take(ctx context.Context, sub subject) (*heldLease, error) {
	return b.takeNamed(ctx, lockName(sub))
}

// takeNamed is take by the name of the lock. The lease is nil if the store has none.
func (b *leases) takeNamed(ctx context.Context, name string) (*heldLease, error) {
	if l := b.share(name); l != nil {
		return l, nil
	}
	lease, began, err := b.lock(ctx, name)
	if err == errNoLocks {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	late := time.Since(began)
	ended, end := context.WithCancelCause(context.Background())
	l := &heldLease{
		book:  b,
		name:  name,
		lease: lease,
		ended: ended,
		end:   end,
		done:  make(chan struct{}),
		users: 1,
		taken: began,
		since: b.ran() - late,
		wall:  b.now().Add(-late),
	}
	b.mu.Lock()
	b.held[name] = l
	b.mu.Unlock()
	b.tasks.Go(l.keepUp)
	return l, nil
}

// share returns the lease that this process has, or nil.
func (b *leases) share(name string) *heldLease {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.held[name]
	if l == nil || l.users == 0 || l.check() != nil {
		return nil
	}
	l.users++
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = time.Now()
	return l
}

// keep adds a user of the lease, who calls release.
func (l *heldLease) keep() *heldLease {
	if l != nil {
		l.book.mu.Lock()
		defer l.book.mu.Unlock()
		l.users++
	}
	return l
}

// release ends the use of the lease. The last user unlocks it, and waits for that.
func (l *heldLease) release() {
	if l == nil || !l.leave() {
		return
	}
	close(l.done)
	l.end(nil)
	l.book.unlock(context.Background(), l.name, l.lease)
}

// unlock ends a lease. If that fails, it ends by itself.
func (b *leases) unlock(ctx context.Context, name string, l cache.Lease) {
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	flight.CallOut(ctx, b.calls, name, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Unlock(ctx) })
}

// leave reports whether that was the last user.
func (l *heldLease) leave() bool {
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	l.users--
	if l.users > 0 {
		return false
	}
	if b.held[l.name] == l {
		delete(b.held, l.name)
	}
	return true
}

// guard returns a context whose writes are made under the lease.
func (l *heldLease) guard(ctx context.Context) context.Context {
	if l == nil {
		return ctx
	}
	return cache.Guard(ctx, l.lease)
}

// attempt returns the context of an attempt under the lease: it ends with the
// lease, before the next request to the CA.
func (l *heldLease) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	if l == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(l.guard(ctx))
	stop := context.AfterFunc(l.ended, func() { cancel(context.Cause(l.ended)) })
	check := func() error {
		err := l.check()
		if err != nil {
			cancel(err)
		}
		return err
	}
	return acmeclient.WithCheck(ctx, check), func() {
		stop()
		cancel(nil)
	}
}

// check returns an error once the lease may have ended.
func (l *heldLease) check() error {
	if l == nil {
		return nil
	}
	if l.left() <= 0 {
		l.lose(errNotExtended)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		return nil
	}
	return l.lost
}

// left returns how long the lease may be relied upon, by the clock by which that is
// shorter: the monotonic one may stand still while the machine is suspended, and
// the wall clock can be set.
func (l *heldLease) left() time.Duration {
	b := l.book
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.settings.lease - max(b.ran()-l.since, b.now().Sub(l.wall))
}

// isLocal reports whether the lease, if there is one, excludes processes of this
// machine only, as those of a directory. Then what is not an issuance's own
// certificate need not be readable and writable, as without locks.
func (l *heldLease) isLocal() bool { return l == nil || l.book.local }

// lose notes that the lease has ended. It stays so.
func (l *heldLease) lose(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = &lostLease{l.name, why}
		l.end(l.lost)
	}
}

// keepUp extends the lease, each third of its time, until nobody uses it any more.
func (l *heldLease) keepUp(ctx context.Context) {
	every := l.book.settings.lease / 3
	timer := time.NewTimer(max(l.left()-2*every, 0))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
		if l.isOverdue() {
			l.lose(errTooLong)
		}
		if l.check() != nil {
			return
		}
		began := time.Now()
		err := l.extend(ctx)
		switch {
		case err == nil:
			timer.Reset(max(every-time.Since(began), 0))
		case isLost(err):
			l.lose(err)
			return
		default:
			timer.Reset(max(min(every/3, l.left()), 0))
		}
	}
}

// isOverdue reports whether what is done under the lease takes too long: user code
// that does not return must not keep the other machines waiting.
func (l *heldLease) isOverdue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.taken) > lockTimeout
}

// confirm extends the lease after a failed validation. If the Cache does not answer, the
// CA may have reached a machine that could not read the answer: that is not the host's
// failure.
func (l *heldLease) confirm(ctx context.Context) {
	if l == nil || l.check() != nil {
		return
	}
	if err := l.extend(ctx); err != nil && ctx.Err() == nil {
		l.lose(fmt.Errorf("%w: %w", errNotFound, err))
	}
}

func (l *heldLease) extend(ctx context.Context) error {
	b := l.book
	began, wall := b.ran(), b.now()
	ctx, cancel := context.WithTimeout(ctx, min(cacheTimeout, l.left()))
	defer cancel()
	_, err := flight.CallOut(ctx, b.calls, l.name, func(ctx context.Context) (struct{}, error) {
		err := l.lease.Extend(ctx, b.settings.lease)
		select {
		case <-l.done: // meanwhile; Unlock did not wait for this call
			unlockLate(ctx, l.lease)
		default:
		}
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.wall = began, wall
	return nil
}
