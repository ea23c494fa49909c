package certmgr_test

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// slowFor makes each read of the host's entries take d.
func (c *faultyCache) slowFor(host string, d time.Duration) {
	c.get(func(ctx context.Context, key string) error {
		if strings.HasPrefix(key, host) {
			return flight.Sleep(ctx, d)
		}
		return nil
	})
}

// Clients of different abilities share the read of an entry that both can use, and a
// read in the background shares it too: the second one does not wait until the first
// has ended, to begin its own with what is left of its time.
func TestReadOfAnEntryIsSharedWhoeverReadsIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const takes = 4 * time.Second // of 5
		w.keep("a.example.com+rsa", entryFor("a.example.com", bundle.RSA, undue))
		w.cache.slowFor("a.example.com", takes)
		var wg sync.WaitGroup
		wg.Go(func() { w.mustGet("a.example.com") }) // reads the ECDSA entry, and then the RSA entry
		time.Sleep(takes + time.Second)
		began := time.Now()
		wg.Go(func() {
			if _, err := w.m.GetCertificate(&tls.ClientHelloInfo{
				ServerName:       "a.example.com",
				SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256},
			}); err != nil {
				t.Errorf("a client that can verify RSA alone got %v", err)
			}
		})
		wg.Go(func() {
			if err := certmgr.Load(t.Context(), w.m, "a.example.com", bundle.RSA); err != nil {
				t.Errorf("a read in the background got %v", err)
			}
		})
		wg.Wait()
		if d := time.Since(began); d != takes-time.Second {
			t.Errorf("those who joined the read waited %v, want what was left of it", d)
		}
		reads := slices.DeleteFunc(w.cache.otherReads(), func(key string) bool { return key == "a.example.com+failure" }) // before ECDSA is issued
		if len(reads) != 2 {
			t.Errorf("%q were read, want each entry once", reads)
		}
		if n := len(w.events.of(audit.CertificateLoaded)); n != 1 {
			t.Errorf("%d events of the certificate that was loaded, want 1", n)
		}
	})
}

// Clients that leave during a slow cache read do not prevent the issuance: it
// continues, and later handshakes join it.
func TestVisitorsWhoLeaveDoNotStartASlowReadAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com") // for the account
		w.cache.slowFor("a.example.com", 1500*time.Millisecond)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				w.handshake(ctx, "a.example.com")
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		time.Sleep(2 * time.Second) // an unfinished order is looked for before another one is placed
		w.wantOrders("a.example.com", 1)
	})
}

// However many come for a host, the cache is asked once for each entry, also for what
// it knows of failures.
func TestManyVisitorsCostOneReadOfEachEntry(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.m.MaxWaiting = 2000
		w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		w.cache.slowFor("a.example.com", 100*time.Millisecond)
		synctest.Wait() // what follows an issuance or a load in the background
		w.cache.reads()
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() { w.get("a.example.com") })
		}
		wg.Wait()
		synctest.Wait()
		reads := make(map[string]int)
		for _, key := range w.cache.reads() {
			reads[key]++
		}
		for _, key := range []string{"a.example.com", "a.example.com+rsa", "a.example.com+failure"} {
			if reads[key] != 1 {
				t.Errorf("%q was read %d times, want once", key, reads[key])
			}
		}
	})
}
