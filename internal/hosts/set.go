package hosts

import (
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"strings"
)

// Set is an immutable set of entries: host names, and wildcards such as
// "*.example.com", which match one label. A nil Set is empty. A Set is safe for
// concurrent use. It is split into shards, so a change of one entry copies one
// shard and not a million entries.
type Set struct {
	generation uint64 // random and unique to this set, not zero

	seed      maphash.Seed
	wildcards int
	size      int // number of entries, including wildcards
	grouped   int // number of names in groups
	shards    [setShards]map[string]*Group
}

// setShards is chosen so that with a million names one shard is about as large
// as the array of shards, which a change copies too.
const setShards = 1024

// Match says how a set matches a host.
type Match uint8

const (
	None     Match = iota // not at all
	Wildcard              // by a wildcard
	Exact                 // by its exact name
)

// newGeneration returns a random number that is not zero.
func newGeneration() uint64 { return max(rand.Uint64(), 1) }

// Generation returns a number that is unique to this set and not zero. A result
// of Match can be reused as long as the generation stays the same.
func (s *Set) Generation() uint64 { return s.generation }

// Len returns the number of entries, including wildcards.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// keyOf returns the map key of an entry. A wildcard "*.example.com" is stored
// as ".example.com", which is no host name: Match finds it by a substring of
// the host, without allocating.
func keyOf(entry string) string { return strings.TrimPrefix(entry, "*") }

func (s *Set) shard(key string) int { return int(maphash.String(s.seed, key) % setShards) }

// Has reports whether the set holds an entry, as written.
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

// each calls yield for the keys of one kind until it returns false.
func (s *Set) each(kind, yield func(key string) bool) bool {
	for i := range s.shards {
		if len(s.shards[i]) == 0 {
			continue // most of a short list; faster than an iteration
		}
		for key := range s.shards[i] {
			if kind(key) && !yield(key) {
				return false
			}
		}
	}
	return true
}

func isName(key string) bool     { return key[0] != '.' }
func isWildcard(key string) bool { return key[0] == '.' }
