package hosts

import (
	"hash/maphash"
	"maps"
)

// Edit is a Set in the making. It is for one goroutine.
type Edit struct {
	set *Set
	own [setShards]bool // shards that no published set has
}

// NewEdit returns an edit that begins with old, which may be nil and stays as it is.
func NewEdit(old *Set) *Edit {
	set := new(Set)
	if old == nil {
		set.seed = maphash.MakeSeed()
	} else {
		*set = *old
	}
	set.generation = newGeneration()
	return &Edit{set: set}
}

// Set returns what the edit has come to. The edit must not be used after it.
func (e *Edit) Set() *Set { return e.set }

// Collect returns a set of entries.
func Collect(entries []string) *Set {
	e := NewEdit(nil)
	if n := len(entries) / setShards; n > 0 {
		for i := range e.set.shards { // sized for what is to come
			e.set.shards[i], e.own[i] = make(map[string]struct{}, n+n/8), true
		}
	}
	for _, entry := range entries {
		e.Add(entry)
	}
	return e.set
}

// Add puts an entry in, and reports whether it is new.
func (e *Edit) Add(entry string) bool {
	key := keyOf(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; ok {
		return false
	}
	e.writable(i)[key] = struct{}{}
	e.count(key, 1)
	return true
}

// Remove takes an entry out, and reports whether it was there.
func (e *Edit) Remove(entry string) bool {
	key := keyOf(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; !ok {
		return false
	}
	delete(e.writable(i), key)
	e.count(key, -1)
	return true
}

// writable returns a shard that may be changed.
func (e *Edit) writable(i int) map[string]struct{} {
	if !e.own[i] {
		e.own[i] = true
		e.set.shards[i] = maps.Clone(e.set.shards[i])
		if e.set.shards[i] == nil {
			e.set.shards[i] = make(map[string]struct{})
		}
	}
	return e.set.shards[i]
}

func (e *Edit) count(key string, n int) {
	e.set.size += n
	if isWildcard(key) {
		e.set.wildcards += n
	}
}

// Difference returns what changes if set takes the place of old.
func Difference(old, set *Set) (added, removed []string) {
	return lacking(old, set), lacking(set, old)
}

// lacking returns the entries of other that set does not have.
func lacking(set, other *Set) (entries []string) {
	for entry := range other.All() {
		if !set.Has(entry) {
			entries = append(entries, entry)
		}
	}
	return entries
}
