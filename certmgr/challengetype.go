package certmgr

import (
	"sync"

	"github.com/nostall/nostall/internal/capped"
)

// typeMemory chooses which challenge types an attempt tries. A host's first
// attempt may try them all; later ones begin with the one that last worked and
// try that alone, so that a failure counts once against the CA's limits.
type typeMemory struct {
	mu     sync.Mutex
	worked capped.Map[string, string] // by host
}

// maxWorked bounds the memory; without it the first type is tried first.
const maxWorked = 100_000

func (t *typeMemory) pick(host string, last *failure, useHTTP01 bool) []string {
	types := []string{tlsALPN01}
	if useHTTP01 {
		types = append(types, http01)
	}
	t.mu.Lock()
	worked, _ := t.worked.Get(host)
	t.mu.Unlock()
	if worked == http01 && useHTTP01 {
		types = []string{http01, tlsALPN01}
	}
	if worked == "" && last == nil {
		return types
	}
	failures := 0
	if last != nil {
		failures = last.err.Attempts
	}
	i := failures % len(types)
	types = types[i : i+1]
	return types
}

func (t *typeMemory) note(host, typ string) {
	if typ == "" {
		return // the CA reused an authorization
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worked.Max = maxWorked
	t.worked.Put(host, typ, nil)
}
