// Package capped provides a map of bounded size, for data that clients or a CA
// can make grow. It knows nothing of what the map holds. A Map has no lock: its
// owner guards it.
package capped

import "iter"

// sample is how many entries are compared to choose the one to evict. Comparing
// all would make an insertion too expensive. Map iteration starts at random, so
// the sample is random.
const sample = 32

// A Map holds at most Max entries. When it is full, each new key evicts
// another. A Map with only Max set is empty and ready for use.
//
// If IsMinor is set, the entries whose value it reports have a cap of their
// own, MaxMinor, and evict only each other: what strangers cause does not
// displace the rest.
type Map[K comparable, V any] struct {
	Max      int // entries; zero means one
	IsMinor  func(V) bool
	MaxMinor int // zero means one

	m, minor map[K]V
}

// Get returns the value of a key.
func (c *Map[K, V]) Get(key K) (value V, ok bool) {
	if value, ok = c.m[key]; !ok {
		value, ok = c.minor[key]
	}
	return value, ok
}

// Len returns the number of entries.
func (c *Map[K, V]) Len() int { return len(c.m) + len(c.minor) }

// Minor returns the number of minor entries.
func (c *Map[K, V]) Minor() int { return len(c.minor) }

// All returns all entries in random order. The Map may be changed during the
// iteration, like a Go map.
func (c *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, m := range []map[K]V{c.m, c.minor} {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Delete removes a key, if present.
func (c *Map[K, V]) Delete(key K) {
	delete(c.m, key)
	delete(c.minor, key)
}

// Put sets the value of a key. If the map is full and the key is new, Put
// evicts the least valuable of a few sampled entries and returns its key. less
// reports whether a is worth less than b; if it is nil, any entry is evicted.
func (c *Map[K, V]) Put(key K, value V, less func(a, b V) bool) (evicted K, dropped bool) {
	if c.IsMinor != nil && c.IsMinor(value) {
		delete(c.m, key)
		return put(&c.minor, c.MaxMinor, key, value, less)
	}
	delete(c.minor, key)
	return put(&c.m, c.Max, key, value, less)
}

func put[K comparable, V any](m *map[K]V, most int, key K, value V, less func(a, b V) bool) (evicted K, dropped bool) {
	if *m == nil {
		*m = make(map[K]V)
	}
	if _, known := (*m)[key]; !known && len(*m) >= max(most, 1) {
		evicted, dropped = worst(*m, less), true
		delete(*m, evicted)
	}
	(*m)[key] = value
	return evicted, dropped
}

// worst returns the key of the least valuable entry in a sample.
func worst[K comparable, V any](m map[K]V, less func(a, b V) bool) (key K) {
	var worst V
	seen := 0
	for k, v := range m {
		if seen == 0 || less(v, worst) {
			key, worst = k, v
		}
		if seen++; seen == sample || less == nil {
			break
		}
	}
	return key
}
