package certmgr

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// fill brings certificates of n hosts into memory, as a trust allows it.
func fill(m *memory, name string, n int, t trust, now time.Time) {
	leaf := &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	for i := range n {
		c := newCertificate(newSubject(bundle.ECDSA, "ca", fmt.Sprintf("h%d.%s", i, name)), nil, nil, leaf)
		m.publish(c, grant{trust: t}, now, alwaysListed)
	}
}

// has returns how many of the first n hosts are in memory.
func has(m *memory, name string, n int) (held int) {
	for i := range n {
		if m.hosts.Get(fmt.Sprintf("h%d.%s", i, name)) != nil {
			held++
		}
	}
	return held
}

// The caps hold, each evicted host is told of, and neither hosts on the list nor those
// with visitors make way.
func TestHostsInMemoryAreBounded(t *testing.T) {
	const most = 2000
	m := newMemory(nil)
	if u, p := m.untrusted.Max, m.byPolicy.Max; u != 100_000 || p != 250_000 {
		t.Errorf("memory holds %d untrusted hosts and %d of the policy's, want 100,000 and 250,000", u, p)
	}
	for _, trust := range []trust{untrusted, byPolicy} {
		t.Run(fmt.Sprint(trust), func(t *testing.T) {
			now := time.Now()
			m := newMemory(func(string) bool { return false })
			m.untrusted.Max, m.byPolicy.Max = most, most
			told := 0
			m.onEvicted = func(certs []*certificate) {
				told++
				if m.current(certs[0].subject) != nil {
					t.Errorf("%v is still there", certs[0].subject)
				}
			}
			fill(m, "listed.example", 1000, listed, now.Add(-24*time.Hour))
			fill(m, "visited.example", 100, trust, now.Add(-24*time.Hour))
			for i := range 100 {
				m.hosts.Get(fmt.Sprintf("h%d.visited.example", i)).takeVisit(bundle.ECDSA, now.Unix())
			}
			fill(m, "made-up.example", most+1000, trust, now.Add(-time.Hour))
			if n := m.hosts.Len(); n != 1000+most {
				t.Errorf("%d hosts in memory, want %d and 1000 on the list", n, most)
			}
			if told != 1100 {
				t.Errorf("told of %d hosts that made way, want 1100", told)
			}
			if l, v := has(m, "listed.example", 1000), has(m, "visited.example", 100); l != 1000 || v != 100 {
				t.Errorf("of 1000 hosts on the list %d stay, and of 100 with visitors %d", l, v)
			}
		})
	}
}

// Each kind of host makes way for its own kind, by what it is at the time.
func TestHostsMakeWayByWhatTheyAreNow(t *testing.T) {
	now := time.Now()
	m := newMemory(func(host string) bool { return host == "h0.added.example" })
	m.untrusted.Max, m.byPolicy.Max = 2, 2
	fill(m, "added.example", 1, untrusted, now.Add(-48*time.Hour)) // it was not on the list then
	fill(m, "policy.example", 2, byPolicy, now)
	fill(m, "strangers.example", 10, untrusted, now)
	if a, p, s := has(m, "added.example", 1), has(m, "policy.example", 2), has(m, "strangers.example", 10); a != 1 || p != 2 || s != 2 {
		t.Errorf("%d that was listed meanwhile, %d of the policy's and %d strangers, want 1, 2 and 2", a, p, s)
	}
	fill(m, "policy.example", 1, untrusted, now) // the policy does not know it any more
	fill(m, "policy.example", 1, byPolicy, now)  // and now it does
	fill(m, "policy.example", 1, listed, now)
	if u, p := m.untrusted.Len(), m.byPolicy.Len(); u > 2 || p != 1 {
		t.Errorf("%d untrusted hosts and %d of the policy's may make way, want 2 at most, and 1", u, p)
	}
	for i := range 2 {
		m.drop(fmt.Sprintf("h%d.policy.example", i))
	}
	if p := m.byPolicy.Len(); p != 0 {
		t.Errorf("%d hosts that are gone may make way", p)
	}
}
