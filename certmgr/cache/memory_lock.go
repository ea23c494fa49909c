package cache

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Lock implements [Locker]. The store is this Memory, so the lock is one between
// the users of the same one, and its clock is that of the process.
func (m *Memory) Lock(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error) {
	if err := CheckLock(name, owner, ttl); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, failed("lock", name, err)
	}
	token, err := m.locks.take(name, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &memoryLease{&m.locks, name, token}, nil
}

// fence returns an error if ctx is that of [Guard] with a lease that has not its
// lock. Until release is called the lease keeps the lock.
func (m *Memory) fence(ctx context.Context) (release func(), err error) {
	guard := Guarded(ctx)
	if guard == nil {
		return func() {}, nil
	}
	l, ok := guard.(*memoryLease)
	if !ok || l.locks != &m.locks {
		return nil, errForeign
	}
	m.locks.mu.Lock()
	if !m.locks.has(l.name, l.token) {
		m.locks.mu.Unlock()
		return nil, fmt.Errorf("lock %q: %w", l.name, ErrLost)
	}
	return m.locks.mu.Unlock, nil
}

// memoryLocks are the locks of a [Memory].
type memoryLocks struct {
	// mu protects the fields below, and keeps a lease from ending while an entry is
	// changed under its guard.
	mu     sync.Mutex
	held   map[string]memoryLock // and some whose lease has ended by itself
	tokens int64                 // the last token, of any name
}

type memoryLock struct {
	token int64
	owner string
	end   time.Time
}

// take returns the token of a new lease, or a [*HeldError].
func (m *memoryLocks) take(name, owner string, ttl time.Duration) (token int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if l, ok := m.held[name]; ok && now.Before(l.end) {
		return 0, &HeldError{Name: name, Owner: l.owner, Remaining: l.end.Sub(now)}
	}
	maps.DeleteFunc(m.held, func(_ string, l memoryLock) bool { return !now.Before(l.end) })
	if m.held == nil {
		m.held = make(map[string]memoryLock)
	}
	m.tokens++
	m.held[name] = memoryLock{m.tokens, owner, now.Add(ttl)}
	return m.tokens, nil
}

// has reports whether the lease with a token has the lock of a name. The caller
// holds mu.
func (m *memoryLocks) has(name string, token int64) bool {
	l := m.held[name]
	return l.token == token && time.Now().Before(l.end)
}

// memoryLease is a lease of a [Memory]. It does not change.
type memoryLease struct {
	locks *memoryLocks
	name  string
	token int64
}

func (l *memoryLease) Token() int64 { return l.token }

func (l *memoryLease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := CheckLock(l.name, "", ttl); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return failed("extend lock", l.name, err)
	}
	l.locks.mu.Lock()
	defer l.locks.mu.Unlock()
	if !l.locks.has(l.name, l.token) {
		return failed("extend lock", l.name, ErrLost)
	}
	lock := l.locks.held[l.name]
	lock.end = time.Now().Add(ttl)
	l.locks.held[l.name] = lock
	return nil
}

func (l *memoryLease) Unlock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return failed("unlock", l.name, err)
	}
	l.locks.mu.Lock()
	defer l.locks.mu.Unlock()
	if !l.locks.has(l.name, l.token) {
		return failed("unlock", l.name, ErrLost)
	}
	delete(l.locks.held, l.name)
	return nil
}
