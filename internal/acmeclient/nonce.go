package acmeclient

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	maxNonces   = 64
	maxNonceAge = 5 * time.Minute // CAs may drop nonces at any time; an old one probably costs a badNonce
	maxNonceLen = 512

	// nonceBurst and nonceEvery pace the requests for nonces: Let's Encrypt allows
	// 20 a second for an IP address.
	nonceBurst = 16
	nonceEvery = 50 * time.Millisecond
)

// noncePool keeps nonces from earlier responses for later requests to the same
// CA, and paces the requests for new ones. The zero value is empty. It is safe for
// concurrent use.
type noncePool struct {
	mu      sync.Mutex // never held across I/O
	nonces  []pooledNonce
	waiting []chan string // callers of take, oldest first; empty unless nonces is
	next    time.Time     // when requests are at their pace again, without the burst
}

type pooledNonce struct {
	value string
	at    time.Time
}

// push hands a nonce to the first caller that waits for one. If there is none,
// it keeps the nonce, and drops the oldest one if the pool is full. It ignores
// implausible nonces and duplicates: a nonce works once.
func (p *noncePool) push(value string, now time.Time) {
	if !plausibleNonce(value) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		p.waiting[0] <- value
		p.waiting = p.waiting[1:]
		return
	}
	if slices.ContainsFunc(p.nonces, func(n pooledNonce) bool { return n.value == value }) {
		return
	}
	if len(p.nonces) >= maxNonces {
		p.nonces = slices.Delete(p.nonces, 0, 1)
	}
	p.nonces = append(p.nonces, pooledNonce{value, now})
}

// take takes a nonce. It returns "" if the caller is to request one from the
// CA. If that would be too soon after others, it waits until it is not, or until
// another response brings a nonce. The error is that of ctx.
func (p *noncePool) take(ctx context.Context, now time.Time) (string, error) {
	p.mu.Lock()
	value, ok := p.pop(now)
	wait := time.Duration(0)
	if !ok {
		wait = p.reserve(now)
	}
	if wait <= 0 {
		p.mu.Unlock()
		return value, nil
	}
	turn := make(chan string, 1)
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case value = <-turn:
		p.giveBack()
		return value, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if value, ok = p.leave(turn); ok || ctx.Err() != nil {
		p.giveBack()
	}
	if ok && ctx.Err() != nil {
		p.push(value, time.Now())
	}
	return value, ctx.Err()
}

// leave ends the wait for turn. It returns a nonce that came at the last moment.
func (p *noncePool) leave(turn chan string) (value string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, turn); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return "", false
	}
	return <-turn, true
}

// reserve reserves a request for a nonce and returns how long to wait before it
// is sent. p.mu is held.
func (p *noncePool) reserve(now time.Time) time.Duration {
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now) - (nonceBurst-1)*nonceEvery
	p.next = p.next.Add(nonceEvery)
	return wait
}

// giveBack undoes reserve for a request that was not sent.
func (p *noncePool) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.next.Add(-nonceEvery)
}

// pop removes the newest nonce. If even that one is too old, it drops all. p.mu
// is held.
func (p *noncePool) pop(now time.Time) (string, bool) {
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
