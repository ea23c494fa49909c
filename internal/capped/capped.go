// Package capped holds a map with a bound: what strangers, or a CA, can make grow
// has one. It knows nothing of what it holds, and has no lock: who uses a Map
// guards it.
package capped

import (
	"iter"
	"maps"
)

// sample is how many entries are looked at to find one that makes room. Looking at
// all would make each new entry cost more than it is worth. The order of a map is
// random, so they are random ones.
const sample = 32

// A Map is a map of at most Max entries. Above that each new one takes the place of
// another. The zero value but for Max is empty and ready to be used.
type Map[K comparable, V any] struct {
	Max int // entries; zero is as one

	m map[K]V
}

// Get returns the value of a key.
func (c *Map[K, V]) Get(key K) (value V, ok bool) {
	value, ok = c.m[key]
	return value, ok
}

// Len returns the number of entries.
func (c *Map[K, V]) Len() int { return len(c.m) }

// All returns all entries in a random order. They may be changed meanwhile, as
// those of a map.
func (c *Map[K, V]) All() iter.Seq2[K, V] { return maps.All(c.m) }

// Delete removes a key, if it is there.
func (c *Map[K, V]) Delete(key K) { delete(c.m, key) }

// Put sets the value of a key. If there is no room for a new key, the worst of a few
// entries makes some, and is returned: less tells whether a is worth less than b; if
// it is nil all are worth the same.
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

// worst returns the key of the entry that is worth least, of a few.
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
