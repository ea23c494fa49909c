package challenge

import (
	"slices"
	"sync"

	"github.com/nostall/nostall/internal/capped"
)

// Memory chooses the challenge types that an attempt tries. A host's first
// attempt may try them all. Later ones try only one, beginning with the type
// that last worked, so that a failure counts once against the CA's limits.
//
// The zero value is ready. Memory is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	worked capped.Map[string, string] // by host
}

// maxWorked is the largest number of hosts remembered. Other hosts start with
// the first type.
const maxWorked = 100_000

// Pick returns the types among usable to try for a host, in order. After
// consecutive failures an attempt tries a single type, another one each time.
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

// Note records the type of a challenge that the CA validated for a host. typ is
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
