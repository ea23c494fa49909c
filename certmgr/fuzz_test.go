package certmgr

import (
	"bytes"
	"context"
	"crypto"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/text"
)

// isCacheKey reports whether a key is what the contract of package cache
// promises its implementations.
func isCacheKey(key string) bool {
	return !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+._-", r)
	})
}

// FuzzBundle: an entry of the cache is whatever somebody put there. Reading it
// never panics, what is read can be written, and that is read as the same.
func FuzzBundle(f *testing.F) {
	for kt, key := range testKeys() {
		sound := mustEncode(key, selfSigned("example.com", key, undue))
		f.Add(sound, kt == int(keyRSA))
		f.Add(sound[:len(sound)/2], kt == int(keyRSA))
		f.Add(mustEncode(key), kt == int(keyRSA))
		f.Add(append(slices.Clone(sound), sound...), kt == int(keyRSA))
		f.Add(bytes.ReplaceAll(sound, []byte("\n"), []byte("\r\n")), kt == int(keyRSA))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, rsa bool) {
		sub := hostSubject("example.com", keyECDSA, DefaultACMEDirectory)
		if rsa {
			sub.keyType = keyRSA
		}
		cert, certErr := certificateFromBundle(sub, data, time.Now())
		key, chain, err := decodeBundle(data)
		if err != nil {
			if certErr == nil || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("errors %q and %q", certErr, err)
			}
			return
		}
		written, err := encodeBundle(key, chain)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		againKey, againChain, err := decodeBundle(written)
		if err != nil || !slices.EqualFunc(againChain, chain, bytes.Equal) {
			t.Fatalf("what was written is read as something else: %v", err)
		}
		if !againKey.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Fatal("the key that was written is read as another one")
		}
		if certErr != nil {
			return
		}
		leaf := cert.copy().Leaf
		if got, ok := keyTypeOf(leaf); !ok || got != sub.keyType || leaf.VerifyHostname("example.com") != nil || !cert.usable(time.Now()) {
			t.Fatalf("a certificate that does not fit is served: %+v", cert)
		}
	})
}

// keyCheckingCache fails the test for keys that lead somewhere else.
type keyCheckingCache struct {
	cache.Memory
	t *testing.T
}

func (c *keyCheckingCache) Get(ctx context.Context, key string) ([]byte, error) {
	token, ok := strings.CutSuffix(key, "+http-01")
	if !ok || token == "" || strings.ContainsAny(token, "/\\.+%") || !isCacheKey(key) {
		c.t.Errorf("the cache is asked for %q", key)
	}
	return c.Memory.Get(ctx, key)
}

// FuzzHTTP01Path: whatever stands behind the well-known path, and in the Host
// header, it reaches nothing in the cache but answers to challenges.
func FuzzHTTP01Path(f *testing.F) {
	for _, path := range []string{"", "token", "..", "../example.com", "a/b", "example.com", "example.com+token", "acme_account+key",
		"%2e%2e", "a.b", "a\\b", "token\x00", "token+http-01", "tökén", strings.Repeat("a", 300), "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"} {
		f.Add("example.com", path)
	}
	for _, host := range []string{"example.com:80", "EXAMPLE.com.", "example.org", "", "[::1]:80", "[", "example.com:80:80", "\xff"} {
		f.Add(host, "token")
	}
	f.Fuzz(func(t *testing.T, host, path string) {
		if isToken(path) != (path != "" && len(path) <= maxToken && !strings.ContainsFunc(path, func(r rune) bool { return r > 0x7f || strings.ContainsRune("+.", r) }) && isCacheKey(path)) {
			t.Fatalf("isToken(%q) = %v", path, isToken(path))
		}
		m := &Manager{Hosts: MustAllowlist("example.com"), Cache: &keyCheckingCache{t: t}}
		defer m.Close()
		m.init()
		body, status, err := m.engine.server.httpToken(t.Context(), host, path)
		if err == nil || body != nil || status != http.StatusForbidden && status != http.StatusNotFound {
			t.Fatalf("httpToken(%q, %q) = %q, %d, %v", host, path, body, status, err)
		}
		if line := err.Error(); len(line) > text.MaxError || strings.ContainsAny(line, "\n\r\x00\x1b") {
			t.Fatalf("httpToken(%q, %q): error %q", host, path, line)
		}
	})
}
