package certmgr_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// recordingCache is a cache as users write them for autocert: a map behind a
// lock, which says autocert.ErrCacheMiss or what miss makes of it.
type recordingCache struct {
	miss func(error) error
	name func(key string) string // where an entry is kept

	mu      sync.Mutex
	entries map[string][]byte
	keys    []string // that were put
}

var _ autocert.Cache = (*recordingCache)(nil)

func (c *recordingCache) at(key string) string {
	if c.name == nil {
		return key
	}
	return c.name(key)
}

func (c *recordingCache) Get(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data, ok := c.entries[c.at(key)]; ok {
		return data, nil
	}
	if c.miss != nil {
		return nil, c.miss(autocert.ErrCacheMiss)
	}
	return nil, autocert.ErrCacheMiss
}

func (c *recordingCache) Put(_ context.Context, key string, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string][]byte)
	}
	c.entries[c.at(key)] = slices.Clone(data)
	c.keys = append(c.keys, key)
	return nil
}

func (c *recordingCache) Delete(_ context.Context, key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, c.at(key))
	return nil
}

// written returns the keys of all entries that were ever put.
func (c *recordingCache) written() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

// files returns where entries are kept now.
func (c *recordingCache) files() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.entries))
}

func TestCachesWrittenForAutocert(t *testing.T) {
	caches := map[string]*recordingCache{
		"bare miss":    {},
		"wrapped miss": {miss: func(err error) error { return fmt.Errorf("sql: no rows: %w", err) }},
		"joined miss":  {miss: func(err error) error { return errors.Join(errors.New("no such object"), err) }},
		"suffix for certificates": {name: func(key string) string {
			if strings.Contains(key, "+") {
				return key
			}
			return key + ".pem"
		}},
	}
	for name, store := range caches {
		t.Run(name, func(t *testing.T) {
			inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
				for range 2 { // and after a restart
					m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: store, Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com")}
					start(t, ca, m)
					serve(t, m, hello("example.com"))
					synctest.Wait()
				}
				if n := ca.Count(acmetest.NewOrder); n != 1 {
					t.Errorf("%d orders, want 1", n)
				}
				if got, want := store.files(), []string{"acme_account+key", store.at("example.com")}; !slices.Equal(got, want) {
					t.Errorf("the cache holds %q, want %q", got, want)
				}
			})
		})
	}
}

// TestOnlyCertificatesHavePlainKeys is for programs that read the cache: a key
// without a plus sign is a host's certificate.
func TestOnlyCertificatesHavePlainKeys(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		store := new(recordingCache)
		m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: store, Client: clientOf(ca),
			HostPolicy: certmgr.HostWhitelist("example.com", "failing.example.com")}
		handler := m.HTTPHandler(nil)
		start(t, ca, m)
		ca.Resolve("example.com", acmetest.Target{HTTPHandler: handler})
		ca.FailValidation("failing.example.com", "", acmetest.Problem{})
		serve(t, m, hello("example.com"))
		rsaOnly := hello("example.com")
		rsaOnly.SignatureSchemes = []tls.SignatureScheme{tls.PSSWithSHA256}
		if _, ok := serve(t, m, rsaOnly).PrivateKey.(*rsa.PrivateKey); !ok {
			t.Error("no RSA certificate for a client that knows nothing else")
		}
		if _, err := m.GetCertificate(hello("failing.example.com")); err == nil {
			t.Error("served")
		}
		synctest.Wait()
		for _, key := range store.written() {
			if strings.Contains(key, "+") == (key == "example.com") {
				t.Errorf("key %q was written", key)
			}
		}
		for _, key := range []string{"example.com", "example.com+rsa", "example.com+token", "acme_account+key"} {
			if !slices.Contains(store.written(), key) {
				t.Errorf("key %q was not written, but %q", key, store.written())
			}
		}
		if !slices.ContainsFunc(store.written(), func(key string) bool { return strings.HasSuffix(key, "+http-01") }) {
			t.Errorf("no http-01 answer was written, but %q", store.written())
		}
		for _, key := range store.files() {
			if strings.HasSuffix(key, "+token") || strings.HasSuffix(key, "+http-01") {
				t.Errorf("the answer %q is still in the cache", key)
			}
		}
	})
}
