package certmgr

import (
	"crypto/x509"
	"fmt"
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
		sub := hostSubject(fmt.Sprintf("h%d.example.com", i), bundle.KeyType(rng.IntN(bundle.KeyTypes)), "ca")
		if have := m.current(sub); have != model[sub] {
			t.Fatalf("operation %d: memory holds %v, want %v", op, have, model[sub])
		}
		switch rng.IntN(10) {
		case 0:
			m.drop(sub.host())
			for kt := range bundle.KeyType(bundle.KeyTypes) {
				delete(model, hostSubject(sub.host(), kt, "ca"))
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
		c := newCertificate(hostSubject("a.example.com", bundle.ECDSA, "ca"), nil, nil, leaf)
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
	c := newCertificate(hostSubject("a.example.com", bundle.ECDSA, "ca"), nil, nil, leaf)
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
