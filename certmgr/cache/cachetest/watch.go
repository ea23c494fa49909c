package cachetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// watchLimit is how long a change of an entry may take to be told of.
const watchLimit = 30 * time.Second

// checkWatcher checks a cache that tells of changes, and finds no fault in
// others.
func checkWatcher(ctx context.Context, c cache.Cache) error {
	w, ok := cache.As[cache.Watcher](c)
	if !ok {
		return nil
	}
	if err := expectTold(ctx, w, c, c); err != nil {
		return err
	}
	// Nobody receives, and nothing waits for that.
	if _, err := w.Watch(ctx, key); err != nil {
		return fmt.Errorf("Watch(%q): %w", key, err)
	}
	for i := range 50 {
		if err := c.Put(ctx, key, fmt.Appendf(nil, "value %d", i)); err != nil {
			return fmt.Errorf("Put(%q), whose watcher does not receive: %w", key, err)
		}
	}
	return checkWatchEnds(ctx, w)
}

// checkWatchEnds is about the context of a watch.
func checkWatchEnds(ctx context.Context, w cache.Watcher) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := w.Watch(ctx, key)
	if err != nil {
		return fmt.Errorf("Watch(%q): %w", key, err)
	}
	cancel()
	if err := expectClosed(changes); err != nil {
		return fmt.Errorf("after the end of its context: %w", err)
	}
	if changes, err = w.Watch(ctx, key); err != nil {
		return nil
	}
	if err := expectClosed(changes); err != nil {
		return fmt.Errorf("of a context that had ended: %w", err)
	}
	return nil
}

func expectClosed(changes <-chan struct{}) error {
	limit := time.NewTimer(watchLimit)
	defer limit.Stop()
	for {
		select {
		case _, open := <-changes:
			if !open {
				return nil
			}
		case <-limit.C:
			return errors.New("the channel of Watch is not closed")
		}
	}
}

// checkWatchOfOthers watches on one machine what another one does.
func checkWatchOfOthers(ctx context.Context, f *fleet) error {
	a, b, err := f.two()
	if err != nil {
		return err
	}
	w, ok := cache.As[cache.Watcher](a.Cache)
	if !ok {
		return nil
	}
	return expectTold(ctx, w, a, b)
}

// expectTold requires two watchers to be told of what writer does, and then to
// find it with reader.
func expectTold(ctx context.Context, w cache.Watcher, reader, writer cache.Cache) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watches := make([]*watch, 2)
	for i := range watches {
		watches[i] = &watch{watcher: w}
		if err := watches[i].open(ctx); err != nil {
			return err
		}
	}
	for i := range 6 {
		var want []byte
		change := func() error { return writer.Delete(ctx, key) }
		if i%3 < 2 {
			want = fmt.Appendf(nil, "value %d", i)
			change = func() error { return writer.Put(ctx, key, want) }
		}
		if err := change(); err != nil {
			return fmt.Errorf("change %d of %q: %w", i+1, key, err)
		}
		for _, watch := range watches {
			if err := watch.until(ctx, func() error { return (&machine{Cache: reader}).expectEntry(ctx, want) }); err != nil {
				return fmt.Errorf("change %d of %q: %w", i+1, key, err)
			}
		}
	}
	return nil
}

// watch is a watch that is begun again when it is closed.
type watch struct {
	watcher cache.Watcher
	changes <-chan struct{}
}

func (w *watch) open(ctx context.Context) (err error) {
	if w.changes, err = w.watcher.Watch(ctx, key); err != nil {
		return fmt.Errorf("Watch(%q): %w", key, err)
	}
	return nil
}

// until receives until the entry is seen as it is to be: one receive may be about
// an earlier change.
func (w *watch) until(ctx context.Context, seen func() error) error {
	limit := time.NewTimer(watchLimit)
	defer limit.Stop()
	for {
		select {
		case _, open := <-w.changes:
			if !open {
				if err := w.open(ctx); err != nil {
					return err
				}
			}
			if seen() == nil {
				return nil
			}
		case <-limit.C:
			if err := seen(); err != nil {
				return fmt.Errorf("a watcher is not told of it: %w", err)
			}
			return errors.New("a watcher is not told of it")
		}
	}
}
