package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// gate is a Cache that can hold up writes on their way to the store.
type gate struct {
	cache.Cache

	mu    sync.Mutex
	holds map[string]*heldWrite // by key
	gone  []*heldWrite          // those that a write has come to
}

// heldWrite holds up one write.
type heldWrite struct{ reached, released chan struct{} }

func newGate(c cache.Cache) *gate { return &gate{Cache: c, holds: make(map[string]*heldWrite)} }

// Unwrap returns the store.
func (g *gate) Unwrap() cache.Cache { return g.Cache }

// Put goes on to the store, even if ctx ends while the write is held up: it is
// like one that is on its way over the network.
func (g *gate) Put(ctx context.Context, key string, data []byte) error {
	g.mu.Lock()
	h := g.holds[key]
	if h != nil {
		delete(g.holds, key)
		g.gone = append(g.gone, h)
	}
	g.mu.Unlock()
	if h == nil {
		return g.Cache.Put(ctx, key, data)
	}
	close(h.reached)
	<-h.released
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return g.Cache.Put(ctx, key, data)
}

// hold holds up the next write of a key.
func (g *gate) hold(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds[key] = &heldWrite{make(chan struct{}), make(chan struct{})}
}

// await waits until a write is held up.
func (g *gate) await(key string) error {
	g.mu.Lock()
	h := g.holds[key]
	g.mu.Unlock()
	if h == nil {
		return nil // it has come already
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-h.reached:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%s is not stored", key)
	}
}

// release lets everything go on.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.gone {
		close(h.released)
	}
	g.gone = nil
	clear(g.holds)
}
