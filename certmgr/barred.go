package certmgr

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"
)

// fingerprint is the SHA-256 of a certificate, or of a public key
// (SubjectPublicKeyInfo).
type fingerprint [sha256.Size]byte

// maxBarred is the largest number of revocations remembered, and of hosts with
// one.
const maxBarred = 100_000

// bar bars a certificate from memory for ever, and all others with its key if
// that is compromised. It returns the certificate that it removed, which may be
// another one with that key. news is false if the certificate was barred
// before.
func (m *memory) bar(c *certificate, compromised bool, now time.Time) (removed *certificate, news bool) {
	var evicted []*certificate
	defer func() { m.tellEvicted(evicted) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.anyRevoked.Store(true)
	id := fingerprint(sha256.Sum256(c.leaf.Raw))
	_, known := m.barred.Get(id)
	m.barred.Put(id, c.notAfter, time.Time.Before)
	if compromised {
		m.barred.Put(sha256.Sum256(c.leaf.RawSubjectPublicKeyInfo), c.notAfter, time.Time.Before)
	}
	for _, host := range append(c.hosts(), c.subject.host()) {
		m.revoked.Put(host, now, time.Time.Before)
		if have := at(m, host, c.alg); have != nil && m.bars(have.leaf) {
			removed = have
			evicted = append(evicted, m.without(have)...)
		}
	}
	return removed, !known
}

// bars reports whether a certificate must not be served. m.mu is held.
func (m *memory) bars(leaf *x509.Certificate) bool {
	if m.barred.Len() == 0 {
		return false
	}
	if _, ok := m.barred.Get(sha256.Sum256(leaf.Raw)); ok {
		return true
	}
	_, ok := m.barred.Get(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	return ok
}

func (m *memory) isBarred(leaf *x509.Certificate) bool {
	if !m.anyRevoked.Load() {
		return false // the usual case
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bars(leaf)
}

// lastRevoked returns when a certificate of host was last revoked here, or the
// zero time.
func (m *memory) lastRevoked(host string) time.Time {
	if !m.anyRevoked.Load() {
		return time.Time{} // the usual case
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, _ := m.revoked.Get(host)
	return at
}

// errRevoked is the error of a certificate that is valid but revoked.
var errRevoked = errors.New("the certificate, or its key, was revoked by Manager.Revoke")
