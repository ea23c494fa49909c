package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nostall/nostall/certmgr/cache"
)

// checkBatch checks a cache that reads many entries at once, and finds no fault
// in others. A wrapper's ability is not used by cache.GetMany, nor tested.
func checkBatch(ctx context.Context, c cache.Cache) error {
	b, ok := c.(cache.BatchGetter)
	if !ok {
		return nil
	}
	if err := expectMany(ctx, b, keys, nil); err != nil {
		return fmt.Errorf("of an empty cache: %w", err)
	}
	if err := fill(ctx, c); err != nil {
		return err
	}
	const empty = "empty.example.com"
	if err := put(ctx, c, empty, nil); err != nil {
		return err
	}
	all := append(slices.Clone(keys), empty, "missing.example.com", "other.example.com", "EXAMPLE")
	// Many keys that have no entry: a server may limit the length of a list.
	for i := range 1000 {
		all = append(all, fmt.Sprintf("missing-%d.example.com", i))
	}
	for _, want := range [][]string{append(slices.Clone(keys), empty), {keys[3]}, {keys[0], empty}, {}} {
		asked := want
		if len(want) > len(keys) {
			asked = all
		}
		if err := expectMany(ctx, b, asked, want); err != nil {
			return err
		}
	}
	got, err := b.GetMany(ctx, []string{key})
	if err != nil {
		return fmt.Errorf("GetMany: %w", err)
	}
	clear(got[key])
	if err := expect(ctx, c, key, valueOf(key)); err != nil {
		return fmt.Errorf("after a change to a slice that GetMany had returned: %w", err)
	}
	err = obeys(ctx, func(ended context.Context) error {
		_, err := b.GetMany(ended, keys)
		return err
	}, func(err error) error {
		if errors.Is(err, cache.ErrMiss) {
			return fmt.Errorf("the error is a miss: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("GetMany: %w", err)
	}
	return nil
}

// expectMany asks for entries and requires those of want, and no others.
func expectMany(ctx context.Context, b cache.BatchGetter, asked, want []string) error {
	got, err := b.GetMany(ctx, asked)
	if err != nil {
		return fmt.Errorf("GetMany of %d keys: %w", len(asked), err)
	}
	for _, k := range want {
		v, ok := got[k]
		value := valueOf(k)
		if k == "empty.example.com" {
			value = []byte{}
		}
		if !ok || v == nil || !bytes.Equal(v, value) {
			return fmt.Errorf("GetMany of %d keys returns %s for %q (there: %t), want %s", len(asked), show(v), k, ok, show(value))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("GetMany of %d keys, %d of which have an entry, returns %d", len(asked), len(want), len(got))
	}
	return nil
}
