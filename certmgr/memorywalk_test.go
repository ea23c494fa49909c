package certmgr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// TestMemoryIsLikeAMap makes random changes of memory and of a plain map, with
// hosts that make way for others.
func TestMemoryIsLikeAMap(t *testing.T) {
	const (
		hosts = 400
		most  = 100
		ops   = 50_000
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m, now := newMemory(func(string) bool { return false }), time.Now()
	m.untrusted.Max, m.byPolicy.Max = most, most
	model := make(map[subject]*certificate)
	m.onEvicted = func(certs []*certificate) {
		for _, c := range certs {
			if model[c.subject] != c {
				t.Errorf("memory evicts %v, which it did not hold", c.subject)
			}
			delete(model, c.subject)
		}
	}
	trusts := []trust{untrusted, byPolicy, listed}
	for op := range ops {
		i := rng.IntN(hosts)
		sub := newSubject(bundle.Algorithm(rng.IntN(bundle.Algorithms)), "ca", fmt.Sprintf("h%d.example.com", i))
		if have := m.current(sub); have != model[sub] {
			t.Fatalf("operation %d: memory holds %v, want %v", op, have, model[sub])
		}
		switch rng.IntN(10) {
		case 0:
			m.drop(sub.host())
			for alg := range bundle.Algorithm(bundle.Algorithms) {
				delete(model, newSubject(alg, "ca", sub.host()))
			}
		case 1:
			if c := model[sub]; c != nil {
				m.bar(c, false, now)
				delete(model, sub)
			}
		case 2:
			m.markRefused(sub.host(), func() time.Time { return now })
		default:
			leaf := &x509.Certificate{Raw: fmt.Append(nil, op), NotBefore: now, NotAfter: now.Add(time.Hour)}
			c := newCertificate(sub, nil, nil, leaf)
			model[sub] = c
			m.publish(c, grant{trust: trusts[i%3]}, now, alwaysListed)
		}
		if op%1000 != 0 {
			continue
		}
		walked := 0
		for c := range m.all() {
			if walked++; model[c.subject] != c {
				t.Fatalf("operation %d: a walk visits %v, which is not there", op, c.subject)
			}
		}
		if walked != len(model) {
			t.Fatalf("operation %d: a walk visits %d certificates, want %d", op, walked, len(model))
		}
	}
}

// Whoever walks over all hosts keeps nobody from changing memory.
func TestWalkOverMemoryHoldsNoLock(t *testing.T) {
	m, now := newMemory(func(string) bool { return false }), time.Now()
	fill(m, "example.com", 10, listed, now)
	for c := range m.all() {
		fill(m, "example.org", 1, listed, now)
		m.markRefused(c.subject.host(), func() time.Time { return now })
		m.isBarred(c.leaf)
		m.bar(c, false, now)
		m.drop(c.subject.host())
	}
	if n := has(m, "example.com", 10); n != 0 {
		t.Errorf("the walker has dropped all hosts, and %d are left", n)
	}
}

// TestRemovalFindsWhatIsPublished: a host that is taken off the list is not in
// memory afterwards, however its certificate comes at the same time: either the
// removal finds it there, or its check finds the removal.
func TestRemovalFindsWhatIsPublished(t *testing.T) {
	for range 300 {
		m, now := newMemory(func(string) bool { return false }), time.Now()
		var removed atomic.Bool
		var all sync.WaitGroup
		leaf := &x509.Certificate{NotAfter: now.Add(time.Hour)}
		c := newCertificate(newSubject(bundle.ECDSA, "ca", "a.example.com"), nil, nil, leaf)
		for range 2 {
			all.Go(func() {
				m.publish(c, grant{}, now, func() *refusal {
					if removed.Load() {
						return takenOff("a.example.com", "", nil)
					}
					return nil
				})
			})
		}
		all.Go(func() {
			removed.Store(true)
			m.settle()
			if len(m.certificates("a.example.com")) > 0 {
				m.drop("a.example.com")
			}
		})
		all.Wait()
		if m.current(c.subject) != nil {
			t.Fatal("a host that was removed is in memory")
		}
	}
}

// TestRemovalWaitsForAPublication: the same, where the publication has checked
// the list a moment before the removal and is not finished when that looks.
func TestRemovalWaitsForAPublication(t *testing.T) {
	m, now := newMemory(func(string) bool { return false }), time.Now()
	leaf := &x509.Certificate{NotAfter: now.Add(time.Hour)}
	c := newCertificate(newSubject(bundle.ECDSA, "ca", "a.example.com"), nil, nil, leaf)
	found := make(chan int)
	m.publish(c, grant{}, now, func() *refusal {
		removing := make(chan struct{})
		go func() {
			close(removing)
			m.settle()
			found <- len(m.certificates("a.example.com"))
		}()
		<-removing
		return nil
	})
	if n := <-found; n != 1 {
		t.Errorf("the removal finds %d certificates, want the one that was being published", n)
	}
}

// TestStormOverMemory has handshakes and walks beside changes. What is served is
// never older than what was in memory before the handshake, and none was barred
// before it. Hosts come and go meanwhile, so that the table grows and shrinks.
func TestStormOverMemory(t *testing.T) {
	const (
		hosts   = 50
		changes = 1000
	)
	m, now := newMemory(func(string) bool { return true }), time.Now()
	want, key := ecdsaKeys, &ecdsa.PublicKey{Curve: elliptic.P256()}
	host := func(i int) string { return fmt.Sprintf("h%d.example.com", i) }
	publish := func(i int, serial int64) *certificate {
		leaf := &x509.Certificate{Raw: fmt.Append(nil, i, serial), SerialNumber: big.NewInt(serial), NotAfter: now.Add(time.Hour), PublicKey: key}
		c := newCertificate(newSubject(bundle.ECDSA, "ca", host(i)), nil, nil, leaf)
		m.publish(c, grant{trust: listed}, now, alwaysListed)
		return c
	}
	var last [hosts]atomic.Int64 // the serial that the host has at least
	for i := range hosts {
		publish(i, 1)
		last[i].Store(1)
	}
	var done atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		defer done.Store(true)
		for n := range changes {
			i := n % hosts
			before, serial := m.hosts.Get(host(i)).certs[bundle.ECDSA], int64(2+n/hosts)
			publish(i, serial)
			last[i].Store(serial)
			m.bar(before, false, now)
			m.markAllowed(host(i), now)
			publish(hosts+n%2000, serial)
			m.drop(host(hosts + (n+1000)%2000))
		}
	})
	for range 2 {
		all.Go(func() {
			for n := 0; !done.Load(); n++ {
				i := n % hosts
				least := last[i].Load()
				_, e, err := m.lookUp(host(i))
				if c := e.hot(want, now); err != nil || c == nil || c.leaf.SerialNumber.Int64() < least {
					t.Errorf("%s: served %v, %v; want serial %d or later", host(i), c, err, least)
					return
				}
			}
		})
		all.Go(func() {
			for !done.Load() {
				var least [hosts]int64
				for i := range least {
					least[i] = last[i].Load()
				}
				found := 0
				for c := range m.all() {
					var i int
					if fmt.Sscanf(c.subject.host(), "h%d.example.com", &i); i >= hosts {
						continue
					}
					if found++; c.leaf.SerialNumber.Int64() < least[i] {
						t.Errorf("a walk visits serial %v of %s, want %d or later", c.leaf.SerialNumber, host(i), least[i])
					}
				}
				if found != hosts {
					t.Errorf("a walk visits %d of the hosts that are there all the time, want %d", found, hosts)
					return
				}
			}
		})
	}
	all.Wait()
}
