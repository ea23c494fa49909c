package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// circuit knows whether the store of a [LayeredCache] answers. While it does not,
// reads fail at once, so that 10,000 of them do not wait for it one after another.
type circuit struct {
	wake  chan struct{}               // receives when the store goes down
	probe func(context.Context) error // asks for what does not depend on an entry

	mu       sync.Mutex // protects what follows
	failures int        // reads that failed in a row
	down     error      // why the store counts as down, or nil
	probeAt  time.Time  // when it is asked next
	probing  bool       // a read is asking
	followed bool       // Follow asks, so reads need not
}

const (
	// probeEvery is how often a store that is down is asked.
	probeEvery = 5 * time.Second

	// maxFailures is how many reads fail in a row before the store is probed. They
	// may all be about a damaged entry.
	maxFailures = 3
)

// ask calls f, which reads the store and has this time-out, unless the store is
// down.
func ask[T any](ctx context.Context, c *circuit, timeout time.Duration, f func(context.Context) (T, error)) (v T, err error) {
	if err := c.admit(); err != nil {
		return v, err
	}
	returned := false
	defer func() {
		if !returned {
			c.left() // a panic
		}
	}()
	in, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err = f(in)
	switch {
	case err == nil || errors.Is(err, ErrMiss):
		c.answered()
	case ctx.Err() != nil:
		c.left()
	case in.Err() != nil:
		c.open(err)
	default:
		c.failed(ctx, in, err)
	}
	returned = true
	return v, err
}

// admit returns an error if the store is down and need not be asked now.
func (c *circuit) admit() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down == nil {
		return nil
	}
	if c.followed || c.probing || time.Now().Before(c.probeAt) {
		return c.down
	}
	c.probing = true
	return nil
}

// left ends a read whose outcome says nothing.
func (c *circuit) left() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
}

// answered notes that the store has answered.
func (c *circuit) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		signal(c.wake)
	}
	c.failures, c.down, c.probing = 0, nil, false
}

// failed notes a read for ctx that failed, within the time that in has.
func (c *circuit) failed(ctx, in context.Context, err error) {
	c.mu.Lock()
	c.failures++
	mayBeDown := c.failures >= maxFailures || c.down != nil
	if !mayBeDown {
		c.probing = false
	}
	c.mu.Unlock()
	if !mayBeDown {
		return
	}
	switch probed := c.probe(in); {
	case probed == nil:
		c.answered()
	case ctx.Err() != nil:
		c.left()
	default:
		c.open(err)
	}
}

// open makes the store count as down.
func (c *circuit) open(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.probing, c.probeAt = false, now.Add(probeEvery)
	if c.down == nil {
		c.down = fmt.Errorf("cache: the remote cache counts as down since %s: %w", now.UTC().Format(time.RFC3339), err)
		signal(c.wake)
	}
}

// state returns when to ask the store, and why it is down, or nil.
func (c *circuit) state() (probeAt time.Time, down error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.probeAt, c.down
}

// follow and unfollow begin and end a loop of Follow, which asks the store while it
// is down.
func (c *circuit) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followed = true
}

func (c *circuit) unfollow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followed = false
}

// probeKey has no entry. A store that says so answers, whatever its entries are
// like.
const probeKey = "layered+probe"

// probe asks a store that may be down.
func (l *LayeredCache) probe(ctx context.Context) error {
	in, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	_, err := l.remote.Get(in, probeKey)
	if errors.Is(err, ErrMiss) {
		return nil
	}
	return err
}

// signal wakes who waits for a channel of capacity 1. It does not block.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
