package acmeclient

import (
	"slices"
	"sync"
	"time"
)

const (
	maxNonces   = 64
	maxNonceAge = 5 * time.Minute // CAs may drop nonces at any time; an old one probably costs a badNonce
	maxNonceLen = 512
)

// noncePool keeps nonces from earlier responses for later requests to the same
// CA. The zero value is empty. It is safe for concurrent use.
type noncePool struct {
	mu     sync.Mutex // never held across I/O
	nonces []pooledNonce
}

type pooledNonce struct {
	value string
	at    time.Time
}

// push adds a nonce, and drops the oldest one if the pool is full. It ignores
// implausible nonces and duplicates: a nonce works once.
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

// pop takes the newest nonce. If even that one is too old, it drops all.
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

// plausibleNonce is more lenient than RFC 8555, section 6.5.1, which requires
// base64url: a CA will accept what it handed out.
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
