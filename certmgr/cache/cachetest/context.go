package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nostall/nostall/certmgr/cache"
)

// attempts is how often a call is made under a context that has ended before
// the cache counts as ignoring contexts. A single call proves nothing: a select
// over a result and a context, both ready, takes either, and the contract
// allows that. autocert.DirCache occasionally does so.
const attempts = 20

// obeys calls f under a context that has ended, until it returns an error. It
// returns that error, or nil if f never returned one. check inspects the effect
// of each call.
func obeys(parent context.Context, f func(ctx context.Context) error, check func(err error) error) error {
	ctx, cancel := context.WithCancel(parent)
	cancel()
	for range attempts {
		err := f(ctx)
		if failed := check(err); failed != nil {
			return failed
		}
		if err != nil {
			return nil
		}
	}
	return fmt.Errorf("under a context that had ended %d of %d calls returned without an error", attempts, attempts)
}

func checkEndedGet(ctx context.Context, c cache.Cache) error {
	want := []byte("value")
	if err := put(ctx, c, key, want); err != nil {
		return err
	}
	var got []byte
	get := func(ctx context.Context) (err error) {
		got, err = c.Get(ctx, key)
		return err
	}
	err := obeys(ctx, get, func(err error) error {
		if errors.Is(err, cache.ErrMiss) {
			return fmt.Errorf("Get(%q) of an entry that exists: the error under a context that had ended is a miss: %w", key, err)
		}
		if err == nil && !bytes.Equal(got, want) {
			return fmt.Errorf("Get(%q) under a context that had ended = %s without an error, want %s", key, show(got), show(want))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Get(%q): %w", key, err)
	}
	return checkEndedGetMissing(ctx, c)
}

// checkEndedGetMissing is about a key that has no entry: even then the caller,
// who did not wait for the answer, must not be told that there is none.
func checkEndedGetMissing(ctx context.Context, c cache.Cache) error {
	const missing = "other.example.com"
	misses := 0
	err := obeys(ctx, func(ctx context.Context) error {
		_, err := c.Get(ctx, missing)
		if errors.Is(err, cache.ErrMiss) {
			misses++
			return nil // the answer was at hand: see attempts
		}
		return err
	}, func(error) error { return nil })
	if err != nil {
		return fmt.Errorf("Get(%q) of a key without an entry: %w (misses: %d)", missing, err, misses)
	}
	return nil
}

func checkEndedPut(ctx context.Context, c cache.Cache) error {
	old := []byte("the old value")
	if err := put(ctx, c, key, old); err != nil {
		return err
	}
	err := obeys(ctx, func(ctx context.Context) error {
		return c.Put(ctx, key, []byte("the value of a Put that was cancelled"))
	}, func(err error) error {
		if errors.Is(err, cache.ErrMiss) {
			return fmt.Errorf("the error is a miss: %w", err)
		}
		if kept := expect(ctx, c, key, old); kept != nil {
			return fmt.Errorf("after a Put under a context that had ended (it returned %v): %w", err, kept)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Put(%q): %w", key, err)
	}
	// The cache is none the worse for it.
	return put(ctx, c, key, []byte("the value of the next Put"))
}

func checkEndedDelete(ctx context.Context, c cache.Cache) error {
	if err := put(ctx, c, key, []byte("value")); err != nil {
		return err
	}
	err := obeys(ctx, func(ctx context.Context) error {
		return c.Delete(ctx, key)
	}, func(err error) error {
		if errors.Is(err, cache.ErrMiss) {
			return fmt.Errorf("the error is a miss: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Delete(%q): %w", key, err)
	}
	return nil
}
