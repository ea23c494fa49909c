package cases

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// bundle returns a cache entry with a certificate of its own CA for host, and a
// new serial number each time.
func bundle(t *T, from, to time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: serial, DNSNames: []string{host}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return b.Bytes()
}

// changingCache returns another certificate with the same dates at each read.
type changingCache struct {
	cache.Memory
	next  func() []byte
	reads atomic.Int32
}

func (c *changingCache) Get(ctx context.Context, key string) ([]byte, error) {
	if key != host {
		return c.Memory.Get(ctx, key)
	}
	if c.reads.Add(1) > 200 {
		<-ctx.Done() // ends a loop
		return nil, ctx.Err()
	}
	return c.next(), nil
}

// H13 (hostile review): a cache that returns another certificate at each read,
// due for renewal, is not read in a loop.
func TestChangingCacheMakesNoLoop(t *testing.T) {
	table.Run(t, "H13", func(t *T) {
		bubble(t, func(t *T, w *world) {
			from, to := time.Now().Add(-80*24*time.Hour), time.Now().Add(10*24*time.Hour)
			c := &changingCache{next: func() []byte { return bundle(t, from, to) }}
			w.cache = c
			w.restart()
			if _, err := w.get(host); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			if n := c.reads.Load(); n > 50 {
				t.Errorf("%d reads in 10 minutes, want 50 at most", n)
			}
			if w.newOrders() == 0 {
				t.Error("no order in 10 minutes, although the certificate is due")
			}
		})
	})
}
