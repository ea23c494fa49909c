package rediscache

import (
	"context"
	"errors"
	"sync"
)

// watcher is a call of Watch.
type watcher struct {
	key     string
	changed chan struct{} // has room for one
	stop    func() bool   // of the function that removes it when its context ends
}

// watchers are all of a cache. They share one subscription, and so one connection.
// It begins with the first watcher and ends with the last one, or when messages
// may have been lost.
type watchers struct {
	// mu protects what follows, and set, ready and err of each subscription. It is
	// never held while the network is used.
	mu      sync.Mutex
	current *subscription // nil if nobody watches
}

// errUnwatched ends a subscription that has no watchers left.
var errUnwatched = errors.New("nobody watches any more")

// Watch implements [cache.Watcher]. All watches of a cache share a connection of
// its own, beyond those of the client's pool. The channel is closed when that
// connection is lost, and at the latest 10 seconds after its server, or the
// primary behind it, has fallen silent.
func (c *Cache) Watch(ctx context.Context, key string) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, failed("watch", key, err)
	}
	w := &watcher{key: key, changed: make(chan struct{}, 1)}
	s := c.watch(ctx, w)
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, failed("watch", key, ctx.Err())
	}
	if s.err != nil {
		return nil, failed("watch", key, s.err)
	}
	return w.changed, nil
}

// watch adds a watcher until ctx ends, and begins the subscription if there is none.
func (c *Cache) watch(ctx context.Context, w *watcher) *subscription {
	c.watchers.mu.Lock()
	defer c.watchers.mu.Unlock()
	s := c.watchers.current
	if s == nil {
		s = newSubscription(c)
		c.watchers.current = s
		go s.run()
	}
	if s.set[w.key] == nil {
		s.set[w.key] = make(map[*watcher]bool)
	}
	s.set[w.key][w] = true
	w.stop = context.AfterFunc(ctx, func() { c.watchers.remove(s, w) })
	return s
}

// remove closes the channel of a watcher whose context has ended.
func (ws *watchers) remove(s *subscription, w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if !s.set[w.key][w] {
		return // the subscription ended first
	}
	delete(s.set[w.key], w)
	if len(s.set[w.key]) == 0 {
		delete(s.set, w.key)
	}
	close(w.changed)
	if len(s.set) == 0 {
		ws.current = nil
		s.cancel(errUnwatched)
	}
}

// changed tells those who watch the key.
func (ws *watchers) changed(s *subscription, key string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range s.set[key] {
		select {
		case w.changed <- struct{}{}:
		default: // it has not looked since the last change
		}
	}
}

// opened tells those who wait for the subscription that it has begun.
func (ws *watchers) opened(s *subscription) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	s.open(nil)
}

// end closes the channels of all watchers of a subscription.
func (ws *watchers) end(s *subscription, why error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.current == s {
		ws.current = nil
	}
	for _, set := range s.set {
		for w := range set {
			w.stop()
			close(w.changed)
		}
	}
	s.set = nil
	s.open(why)
}
