package acmetest

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
)

// maxNonces is how many nonces are valid at the same time; the oldest are
// forgotten, as by real CAs.
const maxNonces = 100_000

// nonces holds the issued, unused nonces.
type nonces struct {
	mu    sync.Mutex
	good  map[string]bool
	order []string // oldest first; may include used ones
	rate  float64  // fraction of good nonces to refuse
	dice  *mathrand.Rand
}

func (n *nonces) init() {
	n.good = make(map[string]bool)
	n.dice = mathrand.New(mathrand.NewPCG(1, 2)) // deterministic
}

// issue returns a new nonce.
func (n *nonces) issue() string {
	nonce := randomText(16)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.good[nonce] = true
	n.order = append(n.order, nonce)
	if len(n.order) > maxNonces {
		delete(n.good, n.order[0])
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
	if !n.good[nonce] {
		return false
	}
	delete(n.good, nonce)
	return n.rate <= 0 || n.dice.Float64() >= n.rate
}

// BadNonceRate makes the CA refuse this fraction (0 to 1) of good nonces with
// badNonce. The choice is pseudo-random but the same in each run. Zero ends the
// fault.
func (s *Server) BadNonceRate(rate float64) {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	s.nonces.rate = rate
}

// ForgetNonces invalidates all nonces issued so far, as when a CA restarts:
// requests that use them are refused with badNonce.
func (s *Server) ForgetNonces() {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	clear(s.nonces.good)
	s.nonces.order = nil
}
