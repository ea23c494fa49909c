package challenge

import (
	"slices"
	"sync"

	"github.com/nostall/nostall/internal/capped"
)

// Memory chooses which challenge types an attempt tries. A host's first attempt may
// try them all. Later ones begin with the type that last worked and try that alone,
// so that a failure counts once against the CA's limits.
//
// The zero value is ready, and Memory is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	worked capped.Map[string, string] // by host
}

// maxWorked bounds the memory. For a host without an entry the first type is tried
// first.
const maxWorked = 100_000

// Pick returns the types to try for a host, in order, of those that are usable. An
// attempt after failures, which are counted in a row, tries one type, and another one
// each time.
func (m *Memory) Pick(host string, usable []string, failures int) []string {
	m.mu.Lock()
	worked, _ := m.worked.Get(host)
	m.mu.Unlock()
	types := slices.Clone(usable)
	if i := slices.Index(types, worked); i > 0 {
		types = slices.Insert(slices.Delete(types, i, i+1), 0, worked)
	}
	if worked == "" && failures == 0 {
		return types
	}
	i := failures % len(types)
	return types[i : i+1]
}

// Note remembers the type of a challenge that the CA validated for a host. It is
// empty if the CA reused an authorization.
func (m *Memory) Note(host, typ string) {
	if typ == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.worked.Max = maxWorked
	m.worked.Put(host, typ, nil)
}
