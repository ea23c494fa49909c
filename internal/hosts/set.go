package hosts

import (
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"strings"
)

// Set is an immutable set of entries: host names, and wildcards "*.example.com" that
// stand for one label. A nil Set is empty. It is made of shards: a change of one entry
// copies one of them, and not a million entries.
type Set struct {
	generation uint64 // a random number of this set's own, not zero

	seed      maphash.Seed
	wildcards int
	size      int // wildcards included
	shards    [setShards]map[string]struct{}
}

// setShards makes a shard of a million names about as large as the array of
// shards, which a change copies too.
const setShards = 1024

// Match says how a set holds a host.
type Match uint8

const (
	None     Match = iota // not at all
	Wildcard              // below one of its wildcards
	Exact                 // by its name
)

// newGeneration returns a number that no other set has, and that is not zero.
func newGeneration() uint64 { return max(rand.Uint64(), 1) }

// Generation returns a number that tells this set from all others, and that is not
// zero: what was found in a set need not be looked up again while that is the same.
func (s *Set) Generation() uint64 { return s.generation }

// Len returns how many entries the set has, wildcards included.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// keyOf is what an entry is kept under: a wildcard "*.example.com" as
// ".example.com", which no host name begins like, so that a lookup finds it by a
// part of the host, and allocates nothing.
func keyOf(entry string) string { return strings.TrimPrefix(entry, "*") }

func (s *Set) shard(key string) int { return int(maphash.String(s.seed, key) % setShards) }

// Has reports whether the set holds an entry, as it is written.
func (s *Set) Has(entry string) bool { return s != nil && s.hasKey(keyOf(entry)) }

func (s *Set) hasKey(key string) bool {
	_, ok := s.shards[s.shard(key)][key]
	return ok
}

// Match looks up a normalised host. It does not allocate.
func (s *Set) Match(host string) Match {
	if s == nil {
		return None
	}
	if s.hasKey(host) {
		return Exact
	}
	if s.wildcards > 0 {
		if i := strings.IndexByte(host, '.'); i >= 0 && s.hasKey(host[i:]) {
			return Wildcard
		}
	}
	return None
}

// All returns the entries in no particular order: names, then wildcards.
func (s *Set) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s == nil || !s.each(isName, yield) || s.wildcards == 0 {
			return
		}
		s.each(isWildcard, func(key string) bool { return yield("*" + key) })
	}
}

// each calls yield for the keys of one kind, until it returns false.
func (s *Set) each(kind, yield func(key string) bool) bool {
	for _, shard := range s.shards {
		for key := range shard {
			if kind(key) && !yield(key) {
				return false
			}
		}
	}
	return true
}

func isName(key string) bool     { return key[0] != '.' }
func isWildcard(key string) bool { return key[0] == '.' }
