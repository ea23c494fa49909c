package flight

import (
	"context"
	"sync"
)

// KeyLock is a lock for each key that can be waited for under a context, and held
// while something blocks. The zero value is ready.
type KeyLock struct {
	mu   sync.Mutex // guards held; never held while anybody waits
	held map[string]chan struct{}
}

// Lock waits for key. unlock must be called once.
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

// tryLock takes the lock and returns nil, or returns what tells that it may be
// free again.
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
