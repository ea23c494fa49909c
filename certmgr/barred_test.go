package certmgr_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
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
		// Out of memory, so that the next handshake is served from the cache.
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
		if len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), "revoked") {
			t.Errorf("the entry was not reported: %v", rejected)
		}
	})
}

// A read that began before the revocation must not bring back what it found.
func TestRevocationOvertakesAReadOfTheCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		slow := &heldCache{faultyCache: w.cache, release: make(chan struct{})}
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
		if err := certmgr.TakeOut(w.m, "a.example.com", slow.entry(t)); err != nil {
			t.Fatal(err)
		}
		close(slow.release)
		wg.Wait()
	})
}

// heldCache holds what a certificate's first read found back until it is released.
type heldCache struct {
	*faultyCache
	on      atomic.Bool
	release chan struct{}
}

func (c *heldCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.faultyCache.Get(ctx, key)
	if key == "a.example.com" && c.on.Swap(false) {
		<-c.release
	}
	return data, err
}

func (c *heldCache) entry(t *testing.T) []byte {
	data, err := c.faultyCache.Get(t.Context(), "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return data
}
