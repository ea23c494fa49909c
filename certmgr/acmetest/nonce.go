package acmetest

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
)

// maxNonces bounds the nonces that are good at the same time; the oldest are forgotten, as real CAs do.
const maxNonces = 100_000

// nonces are the nonces that were handed out and not used yet.
type nonces struct {
	mu    sync.Mutex
	good  map[string]bool
	order []string // of good, oldest first; may hold used ones
	rate  float64  // share of good nonces to refuse
	dice  *mathrand.Rand
}

func (n *nonces) init() {
	n.good = make(map[string]bool)
	n.dice = mathrand.New(mathrand.NewPCG(1, 2)) // the same in every run
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

// use reports whether nonce is good; it is not any more afterwards.
func (n *nonces) use(nonce string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.good[nonce] {
		return false
	}
	delete(n.good, nonce)
	return n.rate <= 0 || n.dice.Float64() >= n.rate
}

// BadNonceRate makes the CA refuse this share (0 to 1) of the good nonces with badNonce. Which ones is pseudo-random
// but the same in each run. Zero ends it.
func (s *Server) BadNonceRate(rate float64) {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	s.nonces.rate = rate
}

// ForgetNonces makes all nonces that were handed out so far bad, as when a CA is restarted: requests with them are
// refused with badNonce.
func (s *Server) ForgetNonces() {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	clear(s.nonces.good)
	s.nonces.order = nil
}
