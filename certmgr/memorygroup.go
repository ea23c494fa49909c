package certmgr

import (
	"strings"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/table"
)

// The certificate of a group is in memory under each of its names that the group
// has, so that a handshake finds it like any other, and once more by its subject.

// as returns the certificate under another subject.
func (c *certificate) as(sub subject) *certificate {
	if c.subject == sub {
		return c
	}
	other := *c
	other.subject = sub
	return &other
}

// covers reports whether the certificate is for a host.
func (c *certificate) covers(host string) bool { return c.leaf.VerifyHostname(host) == nil }

// isShared reports whether the certificate was ordered for a group.
func (c *certificate) isShared() bool { return strings.HasPrefix(c.entry, groupKeyPrefix) }

// hosts returns the hosts under which memory may have the certificate.
func (c *certificate) hosts() []string {
	if !c.isShared() {
		return []string{c.subject.host()}
	}
	names := make([]string, len(c.leaf.DNSNames))
	for i, name := range c.leaf.DNSNames {
		names[i] = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	return names
}

// placement says where a certificate of a group belongs by the list as it is: to
// which group, and to which of its names.
type placement struct {
	sub   subject
	names []string

	host string  // for which it was read
	own  subject // of host alone
}

// putPublished is publish for a certificate of a group. place is called with m.mu
// held and must not block; it returns an error if none of the names is allowed any
// more. placed is the certificate as it is in memory, or nil.
func putPublished(m *memory, c *certificate, g grant, now time.Time, place func() (placement, *refusal)) (placed *certificate, offList *refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars(c.leaf) {
		return nil, nil
	}
	p, offList := place()
	if offList != nil {
		return nil, offList
	}
	placed = c.as(p.sub)
	putShared(m, placed)
	for _, name := range p.names {
		m.put(name, placed, g, now) // it is on the list, so nobody makes way
	}
	return placed, nil
}

// adoptShared is adopt for a certificate of a group, which was read for one of its
// names, p.host. If the group has a newer one that lacks that, it is the host's
// alone.
func adoptShared(m *memory, c *certificate, g grant, now time.Time, p placement) (kept *certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars(c.leaf) {
		return nil
	}
	c = c.as(p.sub)
	current := m.current(p.sub)
	if current != nil && current.usable(now) && (!c.notBefore.After(current.notBefore) || bundle.LacksIssuer(c.chain, current.chain)) {
		if current.covers(p.host) {
			c = current
		} else {
			c = c.as(p.own)
		}
		p.names = []string{p.host}
	} else {
		putShared(m, c)
	}
	for _, name := range p.names {
		if have := at(m, name, c.alg); have == nil || !have.usable(now) || !have.notBefore.After(c.notBefore) {
			m.put(name, c, g, now)
		}
	}
	return at(m, p.host, c.alg)
}

// shareWith brings the certificate of a group into service for one more of its hosts.
func shareWith(m *memory, host string, c *certificate, g grant, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current(c.subject) == c {
		m.put(host, c, g, now)
	}
}

// at returns the certificate of a host for a key type, or nil.
func at(m *memory, host string, alg bundle.Algorithm) *certificate {
	if e := m.hosts.Get(host); e != nil {
		return e.certs[alg]
	}
	return nil
}

// putShared makes a certificate that of its group. m.mu is held.
func putShared(m *memory, c *certificate) {
	if c.subject.group {
		m.groups.Put(&table.Item[subject, groupEntry]{Key: c.subject, Value: groupEntry{c}})
	}
}

// groupEntry is the certificate of a group.
type groupEntry struct{ cert *certificate }

// regroup gives the certificates of hosts the subjects that the list and the
// groups' certificates call for: a host whose certificate is not that of its group
// has it for itself. It returns those that have another subject now, and the
// subjects that they had.
func regroup(m *memory, e *env, hosts []string) (changed []*certificate, gone []subject) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, host := range hosts {
		old := m.hosts.Get(host)
		if old == nil {
			continue
		}
		for _, c := range old.all() {
			want := c.as(e.ownSubject(host, c.alg))
			if g := e.settings.hosts.group(host); g != nil {
				sub := e.groupSubject(g, c.alg)
				current := m.current(sub)
				if current == nil && c.isShared() { // its group's first name is another one now
					current = c.as(sub)
					putShared(m, current)
					changed = append(changed, current)
				}
				if current != nil && current.leaf.Equal(c.leaf) {
					want = current
				}
			}
			if want == c {
				continue
			}
			it := m.cloned(host)
			it.Value.certs[c.alg], it.Value.served[c.alg] = want, want.served
			m.set(it)
			gone = append(gone, c.subject)
			if !want.subject.group {
				changed = append(changed, want)
			}
		}
	}
	for sub := range m.groups.All() {
		if e.groupOf(sub) == nil {
			m.groups.Delete(sub)
			gone = append(gone, sub)
		}
	}
	return changed, gone
}

// withoutAt removes the certificate of a host. It returns the certificates of the
// host that makes way, if any. m.mu is held.
func withoutAt(m *memory, host string, alg bundle.Algorithm) (evicted []*certificate) {
	it := m.cloned(host)
	e := &it.Value
	e.certs[alg], e.served[alg] = nil, served{}
	if e.certs == [bundle.Algorithms]*certificate{} {
		m.remove(host)
		return nil
	}
	return m.set(it)
}

// inService says where memory has a certificate: for which host, and since when
// that has been in service with its key type.
type inService struct {
	host  string
	since time.Time
}
