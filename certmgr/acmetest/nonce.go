package acmetest

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
)

// maxNonces is how many nonces are valid at the same time; the oldest are
// forgotten, as by real CAs.
const maxNonces = 100_000

// nonces holds the issued, unused nonces.
type nonces struct {
	mu     sync.Mutex
	unused map[string]*Fault // nil for a good nonce, or the ForgetNonces that invalidated it
	order  []string          // oldest first; may include used ones
	dice   *mathrand.Rand

	rate    float64 // fraction of good nonces to refuse
	badRate *Fault  // that set it, or nil
}

func (n *nonces) init() {
	n.unused = make(map[string]*Fault)
	n.dice = mathrand.New(mathrand.NewPCG(1, 2)) // deterministic
}

// issue returns a new nonce.
func (n *nonces) issue() string {
	nonce := randomText(16)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unused[nonce] = nil
	n.order = append(n.order, nonce)
	if len(n.order) > maxNonces {
		delete(n.unused, n.order[0])
		n.order = n.order[1:]
	}
	return nonce
}

// randomText returns n random bytes in base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64url.EncodeToString(b)
}

// use reports whether nonce is good, and invalidates it.
func (n *nonces) use(nonce string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	forgotten, ok := n.unused[nonce]
	if !ok {
		return false
	}
	delete(n.unused, nonce)
	if forgotten != nil {
		forgotten.acted.Add(1)
		return false
	}
	if n.rate <= 0 || n.dice.Float64() >= n.rate {
		return true
	}
	n.badRate.acted.Add(1)
	return false
}

// BadNonceRate makes the CA refuse this fraction (0 to 1) of good nonces with
// badNonce. The choice is pseudo-random but the same in each run. It replaces
// an earlier rate; zero ends the fault. It panics for another rate.
func (s *Server) BadNonceRate(rate float64) *Fault {
	s.mustBeUsable()
	if !(rate >= 0 && rate <= 1) {
		panic(fmt.Sprintf("acmetest: BadNonceRate(%v): the rate is a fraction from 0 to 1", rate))
	}
	n := &s.nonces
	begin := s.begun.add
	if rate == 0 {
		begin = newFault // nothing that can act
	}
	var f *Fault
	f = begin(fmt.Sprintf("BadNonceRate(%v)", rate), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.badRate == f {
			n.rate = 0
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rate, n.badRate = rate, f
	return f
}

// ForgetNonces invalidates all nonces issued so far, as when a CA restarts:
// requests that use them are refused with badNonce. Lifting the fault makes
// those that were not used valid again.
func (s *Server) ForgetNonces() *Fault {
	s.mustBeUsable()
	n := &s.nonces
	var f *Fault
	f = s.begun.add("ForgetNonces()", func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.forget(f, nil)
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(nil, f)
	return f
}

// forget marks the unused nonces that are marked from as to.
func (n *nonces) forget(from, to *Fault) {
	for nonce, f := range n.unused {
		if f == from {
			n.unused[nonce] = to
		}
	}
}
