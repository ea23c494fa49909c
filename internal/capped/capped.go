// Package capped provides a map of bounded size, for data that clients or a CA
// can make grow. It knows nothing of what the map holds. A Map has no lock: its
// owner guards it.
package capped

import (
	"iter"
	"maps"
)

// sample is how many entries are compared to choose the one to evict. Comparing
// all would make an insertion too expensive. Map iteration starts at random, so
// the sample is random.
const sample = 32

// A Map holds at most Max entries. When it is full, each new key evicts
// another. A Map with only Max set is empty and ready for use.
type Map[K comparable, V any] struct {
	Max int // entries; zero means one

	m map[K]V
}

// Get returns the value of a key.
func (c *Map[K, V]) Get(key K) (value V, ok bool) {
	value, ok = c.m[key]
	return value, ok
}

// Len returns the number of entries.
func (c *Map[K, V]) Len() int { return len(c.m) }

// All returns all entries in random order. The Map may be changed during the
// iteration, like a Go map.
func (c *Map[K, V]) All() iter.Seq2[K, V] { return maps.All(c.m) }

// Delete removes a key, if present.
func (c *Map[K, V]) Delete(key K) { delete(c.m, key) }

// Put sets the value of a key. If the map is full and the key is new, Put
// evicts the least valuable of a few sampled entries and returns its key. less
// reports whether a is worth less than b; if it is nil, any entry is evicted.
func (c *Map[K, V]) Put(key K, value V, less func(a, b V) bool) (evicted K, dropped bool) {
	if c.m == nil {
		c.m = make(map[K]V)
	}
	if _, known := c.m[key]; !known && len(c.m) >= max(c.Max, 1) {
		evicted, dropped = c.worst(less), true
		delete(c.m, evicted)
	}
	c.m[key] = value
	return evicted, dropped
}

// worst returns the key of the least valuable entry in a sample.
func (c *Map[K, V]) worst(less func(a, b V) bool) (key K) {
	var worst V
	seen := 0
	for k, v := range c.m {
		if seen == 0 || less(v, worst) {
			key, worst = k, v
		}
		if seen++; seen == sample || less == nil {
			break
		}
	}
	return key
}
