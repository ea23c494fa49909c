package certmgr

import (
	"context"
	"net/http"
	"strings"
	"testing"

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
