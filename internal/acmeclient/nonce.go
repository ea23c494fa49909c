package acmeclient

import (
	"slices"
	"sync"
	"time"
)

const (
	maxNonces   = 64
	maxNonceAge = 5 * time.Minute // CAs may drop them at any time; an old one is likely to cost a badNonce
	maxNonceLen = 512
)

// noncePool keeps nonces of earlier answers for any later request to the same CA.
// The zero value is empty. It is safe for concurrent use.
type noncePool struct {
	mu     sync.Mutex // never held across I/O
	nonces []pooledNonce
}

type pooledNonce struct {
	value string
	at    time.Time
}

// push keeps a nonce, and drops the oldest one when the pool is full. What cannot
// be a nonce, or is in the pool already, is ignored: a nonce works once.
func (p *noncePool) push(value string, now time.Time) {
	if !plausibleNonce(value) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.nonces, func(n pooledNonce) bool { return n.value == value }) {
		return
	}
	if len(p.nonces) >= maxNonces {
		p.nonces = slices.Delete(p.nonces, 0, 1)
	}
	p.nonces = append(p.nonces, pooledNonce{value, now})
}

// pop takes the youngest nonce. If even that one is too old, all are dropped.
func (p *noncePool) pop(now time.Time) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.nonces) == 0 {
		return "", false
	}
	last := p.nonces[len(p.nonces)-1]
	if now.Sub(last.at) > maxNonceAge {
		p.nonces = nil
		return "", false
	}
	p.nonces = p.nonces[:len(p.nonces)-1]
	return last.value, true
}

// clear drops all nonces.
func (p *noncePool) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nonces = nil
}

// plausibleNonce is more lenient than RFC 8555, section 6.5.1, which asks for
// base64url: what a CA hands out it will take back.
func plausibleNonce(v string) bool {
	if v == "" || len(v) > maxNonceLen {
		return false
	}
	for _, c := range []byte(v) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
