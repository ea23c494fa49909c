package certmgr

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// Scenarios are in package certmgr_test, with the harness of harness_test.go. What
// follows is for the few tests that look at the parts of a Manager.

// insides is a Manager that allows a and b.example.com and reaches no CA, with its cache and
// its events so far.
type insides struct {
	m      *Manager
	cache  *slowPuts
	events func(kind audit.Kind) []audit.Event
}

// inside runs f in a bubble of virtual time with a Manager that is in use.
func inside(t *testing.T, f func(t *testing.T, w *insides)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		heard := make(map[audit.Kind][]audit.Event)
		w := &insides{cache: new(slowPuts)}
		w.m = &Manager{
			Hosts:  MustAllowlist("a.example.com", "b.example.com"),
			Cache:  w.cache,
			Client: &acme.Client{HTTPClient: &http.Client{Transport: nowhere{}}},
			Audit: func(_ context.Context, e audit.Event) {
				mu.Lock()
				defer mu.Unlock()
				heard[e.Kind] = append(heard[e.Kind], e)
			},
		}
		w.events = func(kind audit.Kind) []audit.Event {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return heard[kind]
		}
		w.m.init()
		defer w.m.Close()
		f(t, w)
	})
}

// nowhere is a transport that leads to no CA.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no CA here") }

// slowPuts is a cache in memory whose writes can be made to take time.
type slowPuts struct {
	cache.Memory
	onPut func(ctx context.Context, key string) error
}

// put sets what a write does first. It is called before the cache is used.
func (c *slowPuts) put(f func(ctx context.Context, key string) error) { c.onPut = f }

func (c *slowPuts) Put(ctx context.Context, key string, data []byte) error {
	if c.onPut != nil && key != visitsKey {
		if err := c.onPut(ctx, key); err != nil {
			return err
		}
	}
	return c.Memory.Put(ctx, key, data)
}

// testKey is made once: it takes its time on a slow machine.
var testKey = sync.OnceValue(func() crypto.Signer {
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		panic(err)
	}
	return key
})

// certFor returns a new certificate with a key of its own type, valid for 60 days.
func certFor(t *testing.T, sub subject) *certificate {
	t.Helper()
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{sub.host()},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(60 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, testKey().Public(), testKey())
	if err != nil {
		t.Fatal(err)
	}
	entry, err := bundle.Encode(testKey(), [][]byte{der})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certificateFromBundle(sub, entry, now)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
