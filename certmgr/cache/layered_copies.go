package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// copies are the local copies of a [LayeredCache]. They are written in the
// background, so that nobody waits for a slow disk. A value that was read in the
// store is not written if this process has changed the entry meanwhile.
type copies struct {
	cache Cache
	wake  chan struct{}    // receives when a copy could not be written
	later func(key string) // has an entry read again, for which there was no room

	mu      sync.Mutex // protects what follows
	keys    map[string]*copyState
	queue   []string // keys whose copies are to be written
	writers int
	idle    chan struct{} // closed when no writer is left; nil if there is none
	err     error         // of the last copy that could not be written, until taken
}

// copyState is what is known of an entry that somebody reads or changes, or whose
// copy is not what it should be.
type copyState struct {
	users   int     // calls that read or change the entry
	version int     // counts its changes
	change  *change // of the copy, or nil
	queued  bool    // it is in the queue, or being made
}

// change is one of a copy.
type change struct {
	data []byte // nil to delete it
	done chan struct{}
	err  error // set before done is closed
}

const (
	// maxCopies is how many copies wait to be written. Certificates with their
	// keys take a few kilobytes each.
	maxCopies = 1_000

	// maxWriters is how many are written at a time.
	maxWriters = 4

	// copyTimeout is the time-out for writing one.
	copyTimeout = 5 * time.Second
)

// begin is called before an entry is read or changed in the store. It returns the
// entry's version.
func (c *copies) begin(key string) (version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.keys[key]
	if st == nil {
		if c.keys == nil {
			c.keys = make(map[string]*copyState)
		}
		st = new(copyState)
		c.keys[key] = st
	}
	st.users++
	return st.version
}

// end is called when what begin began has ended.
func (c *copies) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.keys[key]
	st.users--
	c.forget(key, st)
}

// forget removes the state of an entry that is as it should be. c.mu is held.
func (c *copies) forget(key string, st *copyState) {
	if st.users == 0 && st.change == nil && !st.queued {
		delete(c.keys, key)
	}
}

// changed notes that an entry may have changed in the store, between begin and
// end, and returns its new version.
func (c *copies) changed(key string) (version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.keys[key]
	st.version++
	return st.version
}

// get returns the copy of an entry as it is, or will be once it is written.
func (c *copies) get(ctx context.Context, key string) ([]byte, error) {
	if data, ok := c.coming(key); ok {
		if data == nil {
			return nil, ErrMiss
		}
		return data, nil
	}
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	data, err := c.cache.Get(ctx, key)
	if data == nil && err == nil {
		err = ErrMiss
	}
	return data, err
}

// coming returns the value that a copy will have, nil if it is to be deleted, and
// whether it is to be changed at all.
func (c *copies) coming(key string) (data []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.keys[key]
	if st == nil || st.change == nil {
		return nil, false
	}
	return bytes.Clone(st.change.data), true
}

// isPlanned reports whether a copy is to be changed, or could not be deleted.
func (c *copies) isPlanned(key string) bool {
	_, ok := c.coming(key)
	return ok
}

// set has the copy of an entry written, if the entry still has this version. It is
// called between begin and end, and does not block.
func (c *copies) set(key string, version int, data []byte) {
	c.plan(key, version, &change{data: append([]byte{}, data...), done: make(chan struct{})})
}

// delete is set for an entry that is gone.
func (c *copies) delete(key string, version int) *change {
	ch := &change{done: make(chan struct{})}
	c.plan(key, version, ch)
	return ch
}

func (c *copies) plan(key string, version int, ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.keys[key]
	switch {
	case st.version != version: // whoever changed it knows more
		close(ch.done)
		return
	case ch.data != nil && !st.queued && len(c.queue) >= maxCopies:
		close(ch.done)
		c.later(key)
		return
	}
	st.change = ch
	if st.queued {
		return
	}
	st.queued = true
	c.queue = append(c.queue, key)
	if c.writers < maxWriters {
		if c.writers++; c.writers == 1 {
			c.idle = make(chan struct{})
		}
		go c.write()
	}
}

// write changes copies until none is left in the queue.
func (c *copies) write() {
	for {
		key, ch := c.next()
		if ch == nil {
			return
		}
		ch.err = c.make(key, ch.data)
		close(ch.done)
		c.made(key, ch)
	}
}

// next returns the next change to make, or nil if there is none.
func (c *copies) next() (key string, ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		if c.writers--; c.writers == 0 {
			close(c.idle)
			c.idle = nil
		}
		return "", nil
	}
	key = c.queue[0]
	c.queue = c.queue[1:]
	return key, c.keys[key].change
}

// made notes the outcome of a change. A copy that could not be deleted stays
// marked, so that it is not returned.
func (c *copies) made(key string, ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.err != nil {
		c.err = failed("write the local copy of", key, ch.err)
		signal(c.wake)
	}
	st := c.keys[key]
	if st.change != ch { // changed again meanwhile
		c.queue = append(c.queue, key)
		return
	}
	if ch.err == nil || ch.data != nil {
		st.change = nil
	}
	st.queued = false
	c.forget(key, st)
}

// make changes one copy.
func (c *copies) make(key string, data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the local cache panicked: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), copyTimeout)
	defer cancel()
	have, err := c.cache.Get(ctx, key)
	switch {
	case data == nil && errors.Is(err, ErrMiss):
		return nil
	case data == nil:
		return c.cache.Delete(ctx, key)
	case err == nil && have != nil && bytes.Equal(have, data):
		return nil
	}
	return c.cache.Put(ctx, key, data)
}

// flush waits until no copy is to be written.
func (c *copies) flush(ctx context.Context) error {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cache: local copies are still being written: %w", ctx.Err())
	}
}

// takeErr returns why the last copy could not be written, if that was not told.
func (c *copies) takeErr() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.err
	c.err = nil
	return err
}

// wait waits until the change is made.
func (ch *change) wait(ctx context.Context) error {
	select {
	case <-ch.done:
		return ch.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
