package cachetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/nostall/nostall/certmgr/cache"
)

// checkLister checks a cache that lists its keys, and finds no fault in others.
func checkLister(ctx context.Context, c cache.Cache) error {
	l, ok := cache.As[cache.Lister](c)
	if !ok {
		return nil
	}
	if err := expectKeys(ctx, l, nil); err != nil {
		return fmt.Errorf("of an empty cache: %w", err)
	}
	if err := fill(ctx, c); err != nil {
		return err
	}
	if err := expectKeys(ctx, l, keys); err != nil {
		return err
	}
	// Entries are rewritten and deleted in the loop: Prune does that.
	for key, err := range l.Keys(ctx) {
		if err != nil {
			return fmt.Errorf("while entries are put and deleted: %w", err)
		}
		if err := c.Put(ctx, key, valueOf(key)); err != nil {
			return fmt.Errorf("Put(%q) in the loop: %w", key, err)
		}
		if err := c.Delete(ctx, key); err != nil {
			return fmt.Errorf("Delete(%q) in the loop: %w", key, err)
		}
	}
	if err := expectKeys(ctx, l, nil); err != nil {
		return fmt.Errorf("after all were deleted in a loop over them: %w", err)
	}
	return expectEnd(ctx, c, l)
}

// expectKeys checks that l lists want and nothing else.
func expectKeys(ctx context.Context, l cache.Lister, want []string) error {
	var got []string
	for key, err := range l.Keys(ctx) {
		if err != nil {
			return fmt.Errorf("the list ends with %w", err)
		}
		got = append(got, key)
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		return fmt.Errorf("listed are %q, want %q", got, want)
	}
	return nil
}

// expectEnd checks that a loop can be left, and that it ends with the context.
func expectEnd(ctx context.Context, c cache.Cache, l cache.Lister) error {
	if err := fill(ctx, c); err != nil {
		return err
	}
	for range l.Keys(ctx) {
		break
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	for key, err := range l.Keys(ctx) {
		if err == nil {
			return fmt.Errorf("under a context that has ended %q is listed", key)
		}
		return nil
	}
	return fmt.Errorf("under a context that has ended nothing is listed, without an error")
}
