package certmgr

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/table"
)

// memory holds the certificates that are served. Readers of hosts take no lock.
// The lock is for those who change something; it is never held while anything
// blocks, nor for a walk over all hosts.
type memory struct {
	evictable

	first  func(host string) bundle.Algorithm // the preferred one; set before the first use, must not block
	hosts  *table.Table[string, hostEntry]
	groups *table.Table[subject, groupEntry]

	mu         sync.Mutex
	barred     capped.Map[fingerprint, time.Time] // what must not be served any more, with its expiry: what ends soonest makes way
	revoked    capped.Map[string, time.Time]      // when a certificate of a host was last revoked
	anyRevoked atomic.Bool                        // whether the two hold anything; set before a host is changed
}

// hostItem is a hostEntry with its host.
type hostItem = table.Item[string, hostEntry]

// hostEntry is replaced, not modified, except for its atomic fields.
type hostEntry struct {
	// The fields that the hot path reads come first, close together.

	// listed is the generation of the allowlist last seen to hold the host: as
	// long as that is current, the hot path does not look the host up again.
	listed atomic.Uint64

	// yes is when HostPolicy last allowed the host, in Unix nanoseconds; 0 if
	// only the allowlist ever allowed it, and while the policy refuses.
	yes atomic.Int64

	// visited is when a handshake that needs a key type was last recorded in
	// visits, in Unix seconds.
	visited [bundle.Algorithms]atomic.Int64

	served [bundle.Algorithms]served // copies of certs; class is 0 if there is none

	hostKind // not changed while the host is in memory

	certs [bundle.Algorithms]*certificate
	trust trust // of when the certificates came into memory

	// asked is when HostPolicy was last asked again in the background.
	asked atomic.Int64

	// undecided is when HostPolicy last could not decide in a handshake.
	undecided atomic.Int64

	// no is when HostPolicy last refused the host, in Unix nanoseconds, while
	// that is its last answer; else 0.
	no atomic.Int64

	since [bundle.Algorithms]time.Time // when the host entered service with a key type

	// sought is when a certificate of the key type that clients prefer was last
	// sought, after the other type was served, in Unix seconds.
	sought atomic.Int64
}

// hostKind is what the host's name says.
type hostKind struct {
	first   bundle.Algorithm // the preferred one
	address bool             // an IP address, which not every client gets that sends it as SNI
}

// newMemory returns an empty memory. isListed reports whether Hosts has a host's
// exact name; it must not block.
func newMemory(isListed func(host string) bool) *memory {
	return &memory{
		evictable: newEvictable(isListed),
		hosts:     table.New[string, hostEntry](),
		first:     func(string) bundle.Algorithm { return bundle.ECDSA },
		groups:    table.New[subject, groupEntry](),
		barred:    capped.Map[fingerprint, time.Time]{Max: maxBarred},
		revoked:   capped.Map[string, time.Time]{Max: maxBarred},
	}
}

// lookUp returns the normal form of a name that a client sent, and the host's
// entry, or nil. A name that memory has as it was sent is in normal form.
func (m *memory) lookUp(name string) (host string, e *hostEntry, err error) {
	if len(name) <= hosts.MaxLength {
		if e = m.hosts.Get(name); e != nil {
			return name, e, nil
		}
		if name == "" {
			return "", nil, errNoSNI
		}
	}
	if host, err = normalizeHost(name, noSNI); err == nil && host != name {
		e = m.hosts.Get(host)
	}
	return host, e, err
}

// hot returns what to serve to a client that can verify these keys, or nil. e may
// be nil.
func (e *hostEntry) hot(can keyClasses, now time.Time) *served {
	if e == nil {
		return nil
	}
	if c := &e.served[e.first]; c.class&can != 0 && c.usable(now) {
		return c
	}
	if c := &e.served[1-e.first]; c.class&can != 0 && c.usable(now) {
		return c
	}
	return nil
}

// takeVisit reports whether visits should record a handshake that needs a key
// type now, in Unix seconds: at most once per visitEvery.
func (e *hostEntry) takeVisit(alg bundle.Algorithm, now int64) bool {
	visited := &e.visited[alg]
	seen := visited.Load()
	return !recently(seen, now) && visited.CompareAndSwap(seen, now)
}

// get returns a certificate for host that the client can use, or nil.
func (m *memory) get(host string, want keyTypePrefs, now time.Time) *certificate {
	e := m.hosts.Get(host)
	if e == nil {
		return nil
	}
	return e.usable(want, now)
}

// usable returns a certificate that the client can use, or nil.
func (e *hostEntry) usable(want keyTypePrefs, now time.Time) *certificate {
	for _, alg := range want.types() {
		if c := e.certs[alg]; c != nil && c.class&want.can != 0 && c.usable(now) {
			return c
		}
	}
	return nil
}

// publish brings a certificate into service that was just issued, unless its
// key was revoked meanwhile, or check returns why its host is no longer
// allowed. check is called with m.mu held and must not block: a host is dropped
// here after the list has changed, so a removal either finds the certificate,
// or check finds the removal.
func (m *memory) publish(c *certificate, g grant, now time.Time, check func() *refusal) (published bool, offList *refusal) {
	var evicted []*certificate
	defer func() { m.tellEvicted(evicted) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars(c.leaf) {
		return false, nil
	}
	if offList = check(); offList != nil {
		return false, offList
	}
	evicted = m.put(c.subject.host(), c, g, now)
	return true, nil
}

// adopt is publish for a certificate from the cache. If memory holds one that
// is valid and was not issued before it, that one stays. (Issued, and not ends:
// lifetimes shrink over the years.) A valid one stays too if c lacks the
// certificate of its issuer. It returns the one that memory holds then, or nil
// if c was revoked.
func (m *memory) adopt(c *certificate, g grant, now time.Time, check func() *refusal) (kept *certificate, offList *refusal) {
	var evicted []*certificate
	defer func() { m.tellEvicted(evicted) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars(c.leaf) {
		return nil, nil
	}
	if e := m.hosts.Get(c.subject.host()); e != nil {
		have := e.certs[c.subject.alg]
		if have != nil && have.subject == c.subject && have.usable(now) &&
			(!c.notBefore.After(have.notBefore) || bundle.LacksIssuer(c.chain, have.chain)) {
			return have, nil
		}
	}
	if offList = check(); offList != nil {
		return nil, offList
	}
	evicted = m.put(c.subject.host(), c, g, now)
	return c, nil
}

// put replaces the host's entry by one with c. It returns the certificates of
// the host that makes way, if any. m.mu is held.
func (m *memory) put(host string, c *certificate, g grant, now time.Time) (evicted []*certificate) {
	it := m.cloned(host)
	e := &it.Value
	e.trust = g.trust
	if yes := g.policyYes; !yes.IsZero() && yes.UnixNano() >= e.no.Load() { // else it has refused since
		e.yes.Store(yes.UnixNano())
		e.no.Store(0)
	}
	if have := e.certs[c.subject.alg]; have == nil || !have.usable(now) {
		e.since[c.subject.alg] = now
	}
	e.certs[c.subject.alg] = c
	e.served[c.subject.alg] = c.served
	return m.set(it)
}

// set makes it the entry of its host. It returns the certificates of the host
// that makes way, if any. m.mu is held.
func (m *memory) set(it *hostItem) (evicted []*certificate) {
	m.hosts.Put(it)
	other, full := m.enter(it.Key, &it.Value)
	if !full {
		return nil
	}
	evicted = m.hosts.Get(other).all()
	m.hosts.Delete(other)
	return evicted
}

// remove removes the host's entry. m.mu is held.
func (m *memory) remove(host string) {
	m.hosts.Delete(host)
	m.leave(host)
}

// retire removes a certificate, unless another one has taken its place.
func (m *memory) retire(c *certificate) {
	var evicted []*certificate
	defer func() { m.tellEvicted(evicted) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current(c.subject) == c {
		evicted = m.without(c)
	}
}

// without removes a certificate that memory has. It returns the certificates of
// the host that makes way, if any. m.mu is held.
func (m *memory) without(c *certificate) (evicted []*certificate) {
	if m.current(c.subject) == c && c.subject.group {
		m.groups.Delete(c.subject)
	}
	for _, host := range c.hosts() {
		if at(m, host, c.alg) == c {
			evicted = append(evicted, withoutAt(m, host, c.alg)...)
		}
	}
	return evicted
}

// cloned returns a new entry for host with the content of the one in memory, if
// there is one. m.mu is held.
func (m *memory) cloned(host string) *hostItem {
	it := &hostItem{Key: host}
	it.Value.hostKind = hostKind{first: m.first(host), address: hosts.IsAddress(host)}
	if old := m.hosts.Get(host); old != nil {
		e := &it.Value
		e.trust, e.certs, e.served, e.since = old.trust, old.certs, old.served, old.since
		for alg := range old.visited {
			e.visited[alg].Store(old.visited[alg].Load())
		}
		e.sought.Store(old.sought.Load())
		e.yes.Store(old.yes.Load())
		e.asked.Store(old.asked.Load())
		e.no.Store(old.no.Load())
	}
	return it
}

// marked calls mark with the host's entry, if there is one, and returns its
// result. The lock keeps the entry from being replaced by a copy that lacks the
// mark.
func (m *memory) marked(host string, mark func(*hostEntry) bool) bool {
	if m.hosts.Get(host) == nil {
		return false // spares scanners the lock
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.hosts.Get(host)
	return e != nil && mark(e)
}

// markAllowed notes that HostPolicy allowed a host, and reports whether that is
// news for one in memory.
func (m *memory) markAllowed(host string, at time.Time) bool {
	return m.marked(host, func(e *hostEntry) bool {
		e.yes.Store(at.UnixNano())
		return e.no.Swap(0) != 0
	})
}

// markRefused notes that HostPolicy refused a host, and reports whether that is
// news. The certificate is kept: a policy may change its mind, and a new one
// costs an order.
func (m *memory) markRefused(host string, now func() time.Time) bool {
	return m.marked(host, func(e *hostEntry) bool {
		e.yes.Store(0)
		return e.no.Swap(now().UnixNano()) == 0
	})
}

// markUndecided notes that HostPolicy could not decide about a host.
func (m *memory) markUndecided(host string, at time.Time) {
	if e := m.hosts.Get(host); e != nil {
		e.undecided.Store(at.UnixNano())
	}
}

// isAllowedByPolicy reports whether HostPolicy's last answer about a host was a
// yes.
func (m *memory) isAllowedByPolicy(host string) bool {
	e := m.hosts.Get(host)
	return e != nil && e.yes.Load() != 0
}

// isRefused reports whether HostPolicy last refused a host.
func (m *memory) isRefused(host string) bool {
	e := m.hosts.Get(host)
	return e != nil && e.no.Load() != 0
}

// drop removes a host. It returns its entry, or nil.
func (m *memory) drop(host string) *hostEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.hosts.Get(host)
	m.remove(host)
	return e
}

// settle waits for publications that were checked before it was called. Whoever
// takes away a permission calls it before it looks for what to drop: afterwards,
// a certificate either is in memory, or its check finds the removal.
func (m *memory) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
}

// all returns the certificates of all key types.
func (e *hostEntry) all() []*certificate {
	return slices.DeleteFunc(slices.Clone(e.certs[:]), func(c *certificate) bool { return c == nil })
}

// certificates returns the certificate in memory for each of a host's key
// types.
func (m *memory) certificates(host string) []*certificate {
	if e := m.hosts.Get(host); e != nil {
		return e.all()
	}
	return nil
}

// current returns the certificate in memory for a subject, or nil.
func (m *memory) current(sub subject) *certificate {
	if sub.group {
		if e := m.groups.Get(sub); e != nil {
			return e.cert
		}
		return nil
	}
	if e := m.hosts.Get(sub.host()); e != nil {
		if c := e.certs[sub.alg]; c != nil && c.subject == sub {
			return c
		}
	}
	return nil
}

// all returns every certificate in memory, that of a group for each of its hosts.
// It takes no lock.
func (m *memory) all() iter.Seq2[*certificate, inService] {
	return func(yield func(*certificate, inService) bool) {
		for host, e := range m.hosts.All() {
			for alg, c := range e.certs {
				if c != nil && !yield(c, inService{host, e.since[alg]}) {
					return
				}
			}
		}
	}
}
