package certmgr

import (
	"context"
	"sync"
)

// locker is the lock under which an issuance takes place. A fleet needs one
// that its machines share.
type locker interface {
	// lock waits until no other issuance for sub's identifiers is under way.
	lock(ctx context.Context, sub subject) (unlock func(), err error)
}

// processLock is the lock of one process. The flight sees to one issuance for
// a subject; here those of a host's two key types are kept apart, because a CA
// that asks for a tls-alpn-01 answer names the host alone (RFC 8737, section 3),
// so that there can be one at a time.
type processLock struct{ keys keyLock }

var _ locker = (*processLock)(nil)

func (l *processLock) lock(ctx context.Context, sub subject) (func(), error) {
	return l.keys.lock(ctx, sub.identifiers)
}

// keyLock is a lock for each key that can be waited for under a context, and
// held while something blocks. The zero value is ready.
type keyLock struct {
	mu   sync.Mutex // guards held; never held while anybody waits
	held map[string]chan struct{}
}

// lock waits for key. unlock must be called once.
func (l *keyLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		free := l.tryLock(key)
		if free == nil {
			return func() { l.unlock(key) }, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryLock takes the lock and returns nil, or returns what tells that it may be
// free again.
func (l *keyLock) tryLock(key string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if free, ok := l.held[key]; ok {
		return free
	}
	if l.held == nil {
		l.held = make(map[string]chan struct{})
	}
	l.held[key] = make(chan struct{})
	return nil
}

func (l *keyLock) unlock(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}
