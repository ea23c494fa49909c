// Package table provides a hash table whose readers take no lock, and whose
// walkers keep no writer from writing. It knows nothing of what it holds.
package table

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
)

// A Table maps keys to items. Get, All and Len may be called at any time, by any
// number of goroutines. Put and Delete must not be called concurrently: their
// owner has a lock for them. No operation takes long, however large the table
// is: it is split into shards, each of which grows and shrinks for itself. Keys
// may be chosen by strangers, since hashes are seeded.
//
// Make one with New.
type Table[K comparable, V any] struct {
	seed   maphash.Seed
	gone   *Item[K, V] // takes the place of a deleted item
	size   atomic.Int64
	shards [shardCount]shard[K, V]
}

// An Item is a key and its value. Its key must not change once it was put.
type Item[K comparable, V any] struct {
	Key   K
	Value V
}

const (
	shardBits  = 7
	shardCount = 1 << shardBits

	// minSlots is the smallest size of a shard that holds anything.
	minSlots = 4
)

// shard is a hash table with linear probing. At most three quarters of its slots
// are used, so a search always ends at an empty one. A rebuild replaces the
// slots by new ones. Readers that have the old ones still find what was there.
type shard[K comparable, V any] struct {
	slots atomic.Pointer[[]slot[K, V]] // a power of two; nil if there is nothing
	live  int                          // items; the owner's lock guards it
	used  int                          // the same, and deleted ones; likewise
}

// slot holds an item and the hash of its key. The hash is written first. An item
// that is there stays in its slot until it is replaced, deleted, or the shard
// rebuilt.
type slot[K comparable, V any] struct {
	hash atomic.Uint64
	item atomic.Pointer[Item[K, V]] // nil if the slot was never used
}

// New returns an empty table.
func New[K comparable, V any]() *Table[K, V] {
	return &Table[K, V]{seed: maphash.MakeSeed(), gone: new(Item[K, V])}
}

// Len returns the number of items.
func (t *Table[K, V]) Len() int { return int(t.size.Load()) }

// Get returns the value of a key, or nil. It does not allocate.
func (t *Table[K, V]) Get(key K) *V {
	h, s := t.locate(key)
	if _, it := t.find(s, h, key); it != nil {
		return &it.Value
	}
	return nil
}

// Put adds an item, or replaces the one with its key.
func (t *Table[K, V]) Put(it *Item[K, V]) {
	h, s := t.locate(it.Key)
	if at, _ := t.find(s, h, it.Key); at != nil {
		at.item.Store(it)
		return
	}
	if slots := s.slots.Load(); slots == nil || (s.used+1)*4 > len(*slots)*3 {
		t.rebuild(s, s.live+1)
	}
	if t.add(*s.slots.Load(), h, it) {
		s.used++
	}
	s.live++
	t.size.Add(1)
}

// Delete removes the item of a key, if there is one.
func (t *Table[K, V]) Delete(key K) {
	h, s := t.locate(key)
	at, _ := t.find(s, h, key)
	if at == nil {
		return
	}
	at.item.Store(t.gone)
	s.live--
	t.size.Add(-1)
	if s.live*8 < len(*s.slots.Load()) {
		t.rebuild(s, s.live)
	}
}

// All returns the items in no particular order. An item that is there from the
// beginning to the end of the walk is visited once. One that is put, replaced or
// deleted meanwhile may be visited as it was before or after, and one that is
// deleted and put again also twice or not at all. The table may be changed
// during the walk, by the walker too.
func (t *Table[K, V]) All() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		for i := range t.shards {
			slots := t.shards[i].slots.Load()
			if slots == nil {
				continue
			}
			for j := range *slots {
				it := (*slots)[j].item.Load()
				if it != nil && it != t.gone && !yield(it.Key, &it.Value) {
					return
				}
			}
		}
	}
}

// locate returns the hash and the shard of a key.
func (t *Table[K, V]) locate(key K) (uint64, *shard[K, V]) {
	h := maphash.Comparable(t.seed, key)
	return h, &t.shards[h>>(64-shardBits)]
}

// find returns the item of a key and its slot, or nil.
func (t *Table[K, V]) find(s *shard[K, V], h uint64, key K) (*slot[K, V], *Item[K, V]) {
	slots := s.slots.Load()
	if slots == nil {
		return nil, nil
	}
	mask := uint64(len(*slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		at := &(*slots)[i]
		it := at.item.Load()
		if it == nil {
			return nil, nil
		}
		if at.hash.Load() == h && it != t.gone && it.Key == key {
			return at, it
		}
	}
}

// add puts an item whose key is not there into the first slot that is free, and
// reports whether that was never used.
func (t *Table[K, V]) add(slots []slot[K, V], h uint64, it *Item[K, V]) (fresh bool) {
	mask := uint64(len(slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		at := &slots[i]
		if there := at.item.Load(); there == nil || there == t.gone {
			at.hash.Store(h)
			at.item.Store(it)
			return there == nil
		}
	}
}

// rebuild gives a shard slots for n items, at least half of them free, and
// leaves deleted items behind.
func (t *Table[K, V]) rebuild(s *shard[K, V], n int) {
	old := s.slots.Load()
	s.used = s.live
	if n == 0 {
		s.slots.Store(nil)
		return
	}
	size := minSlots
	for size < 2*n {
		size *= 2
	}
	slots := make([]slot[K, V], size)
	if old != nil {
		for i := range *old {
			at := &(*old)[i]
			if it := at.item.Load(); it != nil && it != t.gone {
				t.add(slots, at.hash.Load(), it)
			}
		}
	}
	s.slots.Store(&slots)
}
