package flight

import (
	"context"
	"sync"
)

// KeyLock is a set of locks by key. Lock waits under a context, and a lock may
// be held across blocking calls. The zero value is ready. It is safe for
// concurrent use.
type KeyLock struct {
	mu   sync.Mutex // guards held; not held while a caller waits
	held map[string]chan struct{}
}

// Lock waits for key. If err is nil, unlock must be called once.
func (l *KeyLock) Lock(ctx context.Context, key string) (unlock func(), err error) {
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

// tryLock takes the lock and returns nil, or returns a channel that is closed
// when the lock is released.
func (l *KeyLock) tryLock(key string) <-chan struct{} {
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

func (l *KeyLock) unlock(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}
