package cachetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/nostall/nostall/certmgr/cache"
)

// valueOf returns a value unique to k.
func valueOf(k string) []byte { return []byte("value of " + k) }

// fill puts every key and then checks every key.
func fill(ctx context.Context, c cache.Cache) error {
	for _, k := range keys {
		if err := c.Put(ctx, k, valueOf(k)); err != nil {
			return fmt.Errorf("Put(%q): %w", k, err)
		}
	}
	return expectAllBut(ctx, c, "")
}

// expectAllBut checks every key that fill has put, except for one.
func expectAllBut(ctx context.Context, c cache.Cache, except string) error {
	for _, k := range keys {
		if k == except {
			continue
		}
		if err := expect(ctx, c, k, valueOf(k)); err != nil {
			return err
		}
	}
	return nil
}

func checkKeys(ctx context.Context, c cache.Cache) error {
	if err := fill(ctx, c); err != nil {
		return err
	}
	// In reverse order too: keys that collide may go unnoticed in one order.
	for i := len(keys) - 1; i >= 0; i-- {
		if err := c.Put(ctx, keys[i], valueOf(keys[i])); err != nil {
			return fmt.Errorf("Put(%q): %w", keys[i], err)
		}
	}
	if err := expectAllBut(ctx, c, ""); err != nil {
		return err
	}
	return checkCase(ctx, c)
}

// checkCase is about a key that differs by case from one that fill has put. Only
// tokens have capitals, and they are random: a cache may refuse it, if it must.
func checkCase(ctx context.Context, c cache.Cache) error {
	const k = "TOK-EN_1+http-01"
	if err := expectMiss(ctx, c, k); err != nil {
		return fmt.Errorf("beside a key in lower case: %w", err)
	}
	if err := c.Put(ctx, k, valueOf(k)); err == nil {
		if err := expect(ctx, c, k, valueOf(k)); err != nil {
			return err
		}
	}
	if err := expectAllBut(ctx, c, ""); err != nil {
		return fmt.Errorf("after Put(%q): %w", k, err)
	}
	if err := c.Delete(ctx, k); err != nil {
		return fmt.Errorf("Delete(%q): %w", k, err)
	}
	if err := expectAllBut(ctx, c, ""); err != nil {
		return fmt.Errorf("after Delete(%q): %w", k, err)
	}
	return expectMiss(ctx, c, k)
}

func checkDelete(ctx context.Context, c cache.Cache) error {
	if err := fill(ctx, c); err != nil {
		return err
	}
	for _, k := range keys {
		if err := c.Delete(ctx, k); err != nil {
			return fmt.Errorf("Delete(%q): %w", k, err)
		}
		if err := expectMiss(ctx, c, k); err != nil {
			return fmt.Errorf("after Delete(%q): %w", k, err)
		}
		if err := expectAllBut(ctx, c, k); err != nil {
			return fmt.Errorf("after Delete(%q): %w", k, err)
		}
		if err := put(ctx, c, k, valueOf(k)); err != nil {
			return fmt.Errorf("after Delete(%q): %w", k, err)
		}
	}
	return nil
}

func checkDeleteMissing(ctx context.Context, c cache.Cache) error {
	if err := c.Delete(ctx, key); err != nil {
		return fmt.Errorf("Delete(%q) in an empty cache: %w", key, err)
	}
	if err := put(ctx, c, key, []byte("value")); err != nil {
		return err
	}
	for range 2 {
		if err := c.Delete(ctx, key); err != nil {
			return fmt.Errorf("Delete(%q): %w", key, err)
		}
	}
	return expectMiss(ctx, c, key)
}

// whole reports whether v is one of the values that checkConcurrent's writers
// put: one byte, repeated 100 times its value.
func whole(v []byte) bool {
	return len(v) > 0 && len(v) == int(v[0])*100 && bytes.Count(v, v[:1]) == len(v)
}

func checkConcurrent(ctx context.Context, c cache.Cache) error {
	const workers, rounds = 8, 10
	if err := c.Put(ctx, key, bytes.Repeat([]byte{1}, 100)); err != nil {
		return fmt.Errorf("Put(%q): %w", key, err)
	}
	// Half of the workers write the shared key and half read it. Each also
	// puts, reads and deletes a key of its own.
	work := func(id int) error {
		own := fmt.Sprintf("host-%d.example.com", id)
		for range rounds {
			if id%2 == 0 {
				if err := c.Put(ctx, key, bytes.Repeat([]byte{byte(id + 1)}, (id+1)*100)); err != nil {
					return fmt.Errorf("Put(%q) among others: %w", key, err)
				}
			} else if v, err := c.Get(ctx, key); err != nil {
				return fmt.Errorf("Get(%q) while the entry is replaced: %w", key, err)
			} else if !whole(v) {
				return fmt.Errorf("Get(%q) while the entry is replaced = %s, which nobody put", key, show(v))
			}
			if err := put(ctx, c, own, valueOf(own)); err != nil {
				return err
			}
			if err := c.Delete(ctx, own); err != nil {
				return fmt.Errorf("Delete(%q) among others: %w", own, err)
			}
		}
		return nil
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for id := range workers {
		wg.Go(func() { errs[id] = work(id) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
