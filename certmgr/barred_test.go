package certmgr

import (
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// Neither a cache that keeps the entry nor one that gets it again brings a revoked
// certificate back.
func TestRevokedCertificateIsNeverServedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		old := w.mustGet("a.example.com")
		entry, err := w.cache.Get(t.Context(), "a.example.com")
		if err != nil {
			t.Fatal(err)
		}
		// Out of memory, so that the cache is what the next visitor is served from.
		again := func() {
			w.m.Hosts.Remove("a.example.com")
			synctest.Wait()
			w.cache.Cache.Put(t.Context(), "a.example.com", entry)
			w.m.Hosts.Add("a.example.com")
		}
		w.mustRevoke("a.example.com", acme.CRLReasonCessationOfOperation)
		for range 3 {
			again()
			if w.mustGet("a.example.com").Leaf.Equal(old.Leaf) {
				t.Fatal("the revoked certificate is served from the cache")
			}
		}
		rejected := w.events.of(audit.CacheEntryRejected)
		if len(rejected) != 1 || !errors.Is(rejected[0].Err, errRevoked) {
			t.Errorf("the entry was not reported: %v", rejected)
		}
	})
}

// A read that began before the revocation must not bring back what it found.
func TestRevocationOvertakesAReadOfTheCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		slow := &slowCache{faultyCache: w.cache, release: make(chan struct{})}
		old := w.mustGet("a.example.com")
		w.restart()
		w.m.Cache = slow
		slow.on.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if cert, err := w.get("a.example.com"); err == nil && cert.Leaf.Equal(old.Leaf) {
				t.Error("the visitor got the revoked certificate")
			}
		})
		synctest.Wait() // the visitor's read has its data
		cert, err := certificateFromBundle(hostSubject("a.example.com", bundle.ECDSA, w.ca.URL), slow.entry(t), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.m.engine.operator.takeOut(cert, false)
		close(slow.release)
		wg.Wait()
	})
}

// The check that counts is the one under memory's lock: whoever comes with a
// certificate late comes too late.
func TestMemoryTakesNoBarredCertificate(t *testing.T) {
	m, now := newMemory(), time.Now()
	sub := hostSubject("a.example.com", bundle.ECDSA, "ca")
	cert := func() *certificate {
		c, err := certificateFromBundle(sub, testBundle(t, "a.example.com", now, now.Add(day)), now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	revoked, sound := cert(), cert()
	m.publish(revoked, grant{}, now)
	if removed, news := m.bar(revoked, false); removed != revoked || !news {
		t.Errorf("bar returned %v, %v", removed, news)
	}
	if m.adopt(revoked, grant{}, now) != nil || m.publish(revoked, grant{}, now) || m.current(sub) != nil {
		t.Error("memory took a revoked certificate")
	}
	if m.adopt(sound, grant{}, now) != sound {
		t.Error("memory refused another one")
	}
	if removed, news := m.bar(revoked, false); removed != nil || news {
		t.Errorf("bar returned %v, %v for the second time", removed, news)
	}
	m.bar(sound, true)
	renewed := newCertificate(sub, sound.key, sound.chain, &x509.Certificate{Raw: []byte{1}, RawSubjectPublicKeyInfo: sound.leaf.RawSubjectPublicKeyInfo})
	if m.publish(renewed, grant{}, now) {
		t.Error("memory took a certificate with a compromised key")
	}
}

// What is remembered of revocations has a bound, and what ends sooner goes first.
func TestBarredCertificatesAreBounded(t *testing.T) {
	m, now := newMemory(), time.Now()
	id := func(i int) fingerprint { return fingerprint{byte(i), byte(i >> 8), byte(i >> 16)} }
	late := func(i int) bool { return i%2 == 0 }
	for i := range maxBarred + 100 {
		until := now.Add(time.Hour)
		if late(i) {
			until = now.Add(day)
		}
		m.remember(id(i), until)
	}
	if m.barred.Len() != maxBarred {
		t.Errorf("%d entries, want %d", m.barred.Len(), maxBarred)
	}
	for i := range maxBarred {
		if _, ok := m.barred.Get(id(i)); !ok && late(i) {
			t.Fatal("an entry made room for others that end sooner")
		}
	}
}

// slowCache holds what a certificate's first read found back until it is released.
type slowCache struct {
	*faultyCache
	on      atomic.Bool
	release chan struct{}
}

func (c *slowCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.faultyCache.Get(ctx, key)
	if key == "a.example.com" && c.on.Swap(false) {
		<-c.release
	}
	return data, err
}

func (c *slowCache) entry(t *testing.T) []byte {
	data, err := c.faultyCache.Get(t.Context(), "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return data
}
