package hosts

import (
	"hash/maphash"
	"maps"
)

// Edit builds a Set. It is not safe for concurrent use.
type Edit struct {
	set *Set
	own [setShards]bool // shards not shared with another set
}

// NewEdit returns an edit of a copy of old. old is not changed and may be nil.
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

// Set returns the edited set. The edit must not be used afterwards.
func (e *Edit) Set() *Set { return e.set }

// Collect returns the set of the entries, which are valid together.
func Collect(entries []string) *Set {
	e := NewEdit(nil)
	if n := len(entries) / setShards; n > 0 {
		for i := range e.set.shards { // sized for the entries
			e.set.shards[i], e.own[i] = make(map[string]*Group, n+n/8), true
		}
	}
	for _, entry := range entries {
		if names := SplitEntry(entry); len(names) > 1 {
			e.AddGroup(names) // a list that ParseEntries has returned has no name in two
		} else {
			e.Add(entry)
		}
	}
	return e.set
}

// Add adds an entry and reports whether it is new.
func (e *Edit) Add(entry string) bool {
	key := keyOf(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; ok {
		return false
	}
	e.writable(i)[key] = nil
	e.count(key, 1)
	return true
}

// Remove removes an entry and reports whether it was present.
func (e *Edit) Remove(entry string) bool {
	key := keyOf(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; !ok {
		return false
	}
	e.leaveGroup(key)
	delete(e.writable(i), key)
	e.count(key, -1)
	return true
}

// writable returns a shard that only this edit holds, cloning it if necessary.
func (e *Edit) writable(i int) map[string]*Group {
	if !e.own[i] {
		e.own[i] = true
		e.set.shards[i] = maps.Clone(e.set.shards[i])
		if e.set.shards[i] == nil {
			e.set.shards[i] = make(map[string]*Group)
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

// Difference returns what changes if set replaces old.
func Difference(old, set *Set) (added, removed []string) {
	return lacking(old, set), lacking(set, old)
}

// lacking returns the entries of other that are not in set.
func lacking(set, other *Set) (entries []string) {
	for entry := range other.All() {
		if !set.Has(entry) {
			entries = append(entries, entry)
		}
	}
	return entries
}
