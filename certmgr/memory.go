package certmgr

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"
)

// subject is what a certificate is kept under: its identifiers, its key type
// and the CA's directory. It is comparable. A host leads to its subjects; in
// this version each subject has one DNS identifier, the host itself.
type subject struct {
	identifiers string // sorted and comma-joined, as "dns:example.com"
	keyType     keyType
	ca          string
}

func hostSubject(host string, kt keyType, ca string) subject {
	return subject{identifiers: dnsPrefix + host, keyType: kt, ca: ca}
}

const dnsPrefix = "dns:"

// host returns the host that leads to the subject.
func (s subject) host() string { return s.identifiers[len(dnsPrefix):] }

// cacheKey returns autocert's key for the subject's certificate.
func (s subject) cacheKey() string {
	if s.keyType == keyRSA {
		return s.host() + "+rsa"
	}
	return s.host()
}

// certificate is a certificate in memory; immutable.
type certificate struct {
	// What the hot path reads comes first and fits a cache line.
	chain   [][]byte // capped, see copy
	key     crypto.Signer
	leaf    *x509.Certificate
	expires int64 // notAfter in Unix nanoseconds

	notAfter  time.Time
	notBefore time.Time
	subject   subject
}

func newCertificate(sub subject, key crypto.Signer, chain [][]byte, leaf *x509.Certificate) *certificate {
	return &certificate{
		chain:     chain[:len(chain):len(chain)],
		key:       key,
		leaf:      leaf,
		expires:   leaf.NotAfter.UnixNano(),
		notAfter:  leaf.NotAfter,
		notBefore: leaf.NotBefore,
		subject:   sub,
	}
}

// copy returns what a caller of GetCertificate owns: programs append to the
// chain, and the cap makes that leave ours alone.
func (c *certificate) copy() *tls.Certificate {
	return &tls.Certificate{Certificate: c.chain, PrivateKey: c.key, Leaf: c.leaf}
}

// usable reports whether the certificate can be served. One that is not valid
// yet can: the CA dates it, so it is the local clock that is behind, and
// clients go by their own.
func (c *certificate) usable(now time.Time) bool { return now.UnixNano() <= c.expires }

// memory holds the certificates that are served. Its lock is never held while
// anything blocks.
type memory struct {
	mu    sync.RWMutex
	hosts map[string]*hostEntry
}

// hostEntry is replaced and not changed, but for its atomic fields.
type hostEntry struct {
	certs    [keyTypeCount]*certificate
	standing standing // when the certificates came into memory

	// listed is the generation of the allowlist that was last seen to hold the
	// host: while that stands the hot path does not look the host up again.
	listed atomic.Uint64

	// yes is when HostPolicy last allowed the host, asked when it was last
	// asked again in the background, in Unix nanoseconds. Both are 0 for a host
	// that only the allowlist ever allowed.
	yes, asked atomic.Int64

	// sought is set once the cache was asked for a certificate of the key type
	// that clients prefer, after they were served one of the other.
	sought atomic.Bool
}

// grant is why a host may be served: its standing, and when HostPolicy allowed
// it if that is the reason.
type grant struct {
	standing  standing
	policyYes time.Time
}

// maxOpenHosts bounds the hosts in memory whose names nobody vouched for.
const maxOpenHosts = 100_000

func newMemory() *memory { return &memory{hosts: make(map[string]*hostEntry)} }

// get returns a certificate for host that the client can use, or nil.
func (m *memory) get(host string, want wanted, now time.Time) (*certificate, *hostEntry) {
	m.mu.RLock()
	e := m.hosts[host]
	m.mu.RUnlock()
	if e == nil {
		return nil, nil
	}
	if c := e.certs[want.first]; c != nil && c.usable(now) {
		return c, e
	}
	if want.other {
		if c := e.certs[1-want.first]; c != nil && c.usable(now) {
			return c, e
		}
	}
	return nil, e
}

// put publishes a certificate for its host, unless memory holds one that was
// issued later, and returns the one that it holds then. (Issued, and not ends:
// lifetimes shrink over the years.)
func (m *memory) put(c *certificate, g grant) *certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	host := c.subject.host()
	e := &hostEntry{standing: g.standing}
	if old := m.hosts[host]; old != nil {
		e.certs = old.certs
		e.yes.Store(old.yes.Load())
		e.asked.Store(old.asked.Load())
	}
	if !g.policyYes.IsZero() {
		e.yes.Store(g.policyYes.UnixNano())
	}
	if have := e.certs[c.subject.keyType]; have != nil && have.subject == c.subject && have.notBefore.After(c.notBefore) {
		return have
	}
	e.certs[c.subject.keyType] = c
	if m.hosts[host] == nil && g.standing == open && len(m.hosts) >= maxOpenHosts {
		m.evict()
	}
	m.hosts[host] = e
	return c
}

// evict drops a host that nobody vouched for, if there is one among a few: any,
// since the order of a map is random, and the cache still has it.
func (m *memory) evict() {
	seen := 0
	for host, e := range m.hosts {
		if e.standing == open {
			delete(m.hosts, host)
			return
		}
		if seen++; seen == 32 {
			return
		}
	}
}

// allowed notes that HostPolicy allowed a host.
func (m *memory) allowed(host string, at time.Time) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.hosts[host]; e != nil {
		e.yes.Store(at.UnixNano())
	}
}

// drop forgets a host and reports whether it held a certificate for it.
func (m *memory) drop(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.hosts[host]
	delete(m.hosts, host)
	return ok
}

// certificates returns the certificate in memory for each of a host's key types.
func (m *memory) certificates(host string) []*certificate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e := m.hosts[host]
	if e == nil {
		return nil
	}
	var certs []*certificate
	for _, c := range e.certs {
		if c != nil {
			certs = append(certs, c)
		}
	}
	return certs
}

// current returns the certificate in memory for a subject, or nil.
func (m *memory) current(sub subject) *certificate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.hosts[sub.host()]; e != nil {
		if c := e.certs[sub.keyType]; c != nil && c.subject == sub {
			return c
		}
	}
	return nil
}

// all returns every certificate in memory.
func (m *memory) all() []*certificate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	certs := make([]*certificate, 0, len(m.hosts))
	for _, e := range m.hosts {
		for _, c := range e.certs {
			if c != nil {
				certs = append(certs, c)
			}
		}
	}
	return certs
}
