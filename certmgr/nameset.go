package certmgr

import (
	"hash/maphash"
	"iter"
	"maps"
	"strings"
)

// nameSet is what an Allowlist holds at one moment; immutable once it is
// published. It is made of shards: a change of one entry copies one of them, and
// not a million entries.
type nameSet struct {
	// generation is a number of this set's own: it counts on from a random
	// one, so that no two sets of any lists share it.
	generation uint64

	seed      maphash.Seed
	wildcards int
	size      int // wildcards included
	shards    [nameShards]map[string]struct{}
}

// nameShards makes a shard of a million names about as large as the array of
// shards, which a change copies too.
const nameShards = 1024

// nameKey is what an entry is kept under: a wildcard "*.example.com" as
// ".example.com", which no host name begins like, so that a lookup finds it by a
// part of the host, and allocates nothing.
func nameKey(entry string) string { return strings.TrimPrefix(entry, "*") }

func (s *nameSet) shard(key string) int { return int(maphash.String(s.seed, key) % nameShards) }

// has reports whether the set, which may be nil, holds an entry.
func (s *nameSet) has(entry string) bool { return s != nil && s.hasKey(nameKey(entry)) }

func (s *nameSet) hasKey(key string) bool {
	_, ok := s.shards[s.shard(key)][key]
	return ok
}

// match looks up a normalised host. It does not allocate.
func (s *nameSet) match(host string) match {
	if s.hasKey(host) {
		return matchExact
	}
	if s.wildcards > 0 {
		if i := strings.IndexByte(host, '.'); i >= 0 && s.hasKey(host[i:]) {
			return matchWildcard
		}
	}
	return matchNone
}

// all returns the entries of a set, which may be nil: names, then wildcards.
func (s *nameSet) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s == nil || !s.each(false, yield) || s.wildcards == 0 {
			return
		}
		s.each(true, func(key string) bool { return yield("*" + key) })
	}
}

// each calls yield for the keys of wildcards, or for those of names, until it
// returns false.
func (s *nameSet) each(wildcards bool, yield func(key string) bool) bool {
	for _, shard := range s.shards {
		for key := range shard {
			if (key[0] == '.') == wildcards && !yield(key) {
				return false
			}
		}
	}
	return true
}

// nameEdit is a set in the making.
type nameEdit struct {
	set *nameSet
	own [nameShards]bool // shards that no published set has
}

// editNames returns an edit that begins with old, which may be nil.
func editNames(old *nameSet) *nameEdit {
	if old == nil {
		return &nameEdit{set: &nameSet{seed: maphash.MakeSeed()}}
	}
	set := *old
	return &nameEdit{set: &set}
}

// collectNames returns a set of entries.
func collectNames(entries []string) *nameSet {
	e := editNames(nil)
	if n := len(entries) / nameShards; n > 0 {
		for i := range e.set.shards { // sized for what is to come
			e.set.shards[i], e.own[i] = make(map[string]struct{}, n+n/8), true
		}
	}
	for _, entry := range entries {
		e.add(entry)
	}
	return e.set
}

// add reports whether the entry is new.
func (e *nameEdit) add(entry string) bool {
	key := nameKey(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; ok {
		return false
	}
	e.writable(i)[key] = struct{}{}
	e.count(key, 1)
	return true
}

// remove reports whether the entry was there.
func (e *nameEdit) remove(entry string) bool {
	key := nameKey(entry)
	i := e.set.shard(key)
	if _, ok := e.set.shards[i][key]; !ok {
		return false
	}
	delete(e.writable(i), key)
	e.count(key, -1)
	return true
}

// writable returns a shard that may be changed.
func (e *nameEdit) writable(i int) map[string]struct{} {
	if !e.own[i] {
		e.own[i] = true
		e.set.shards[i] = maps.Clone(e.set.shards[i])
		if e.set.shards[i] == nil {
			e.set.shards[i] = make(map[string]struct{})
		}
	}
	return e.set.shards[i]
}

func (e *nameEdit) count(key string, n int) {
	e.set.size += n
	if key[0] == '.' {
		e.set.wildcards += n
	}
}
