package cases

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// challenge is a CA's ClientHello.
func challenge(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{acme.ALPNProto}}
}

// hookedCache is a cache in memory with a callback before each Get and Put.
type hookedCache struct {
	cache.Memory
	get, put func(ctx context.Context, key string) error
}

func (c *hookedCache) Get(ctx context.Context, key string) ([]byte, error) {
	if c.get != nil {
		if err := c.get(ctx, key); err != nil {
			return nil, err
		}
	}
	return c.Memory.Get(ctx, key)
}

func (c *hookedCache) Put(ctx context.Context, key string, data []byte) error {
	if c.put != nil {
		if err := c.put(ctx, key); err != nil {
			return err
		}
	}
	return c.Memory.Put(ctx, key, data)
}

// H07 (hostile review): replies on port 80 disclose no internals to strangers,
// such as where the private keys are or the value of a callback's panic.
func TestHTTPAnswersTellNothingOfTheInside(t *testing.T) {
	const secret = "postgres://user:hunter2@192.0.2.5/certs"
	tests := map[string]func(t *T, m *certmgr.Manager) (secret string){
		"path of the cache": func(t *T, m *certmgr.Manager) string {
			dir := filepath.Join(t.TempDir(), "place-of-keys") // a file, which cannot be read as a directory
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			m.Cache = cache.Dir(dir)
			return dir
		},
		"panic of the cache": func(t *T, m *certmgr.Manager) string {
			m.Cache = &hookedCache{get: func(context.Context, string) error { panic(secret) }}
			return secret
		},
		"error of the cache": func(t *T, m *certmgr.Manager) string {
			m.Cache = &hookedCache{get: func(context.Context, string) error { return errors.New(secret) }}
			return secret
		},
		"panic of the policy": func(t *T, m *certmgr.Manager) string {
			m.Hosts, m.HostPolicy = nil, func(context.Context, string) error { panic(secret) }
			return secret
		},
		"failure of the policy": func(t *T, m *certmgr.Manager) string {
			m.Hosts = nil
			m.HostPolicy = func(context.Context, string) error { return errors.Join(certmgr.ErrPolicy, errors.New(secret)) }
			return secret
		},
	}
	for name, set := range tests {
		table.Run(t, "H07/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				secret := set(t, w.m)
				body := getToken(w.m, host, "token").Body.String()
				if strings.Contains(body, secret) || strings.Contains(body, "goroutine ") || strings.Contains(body, ".go:") {
					t.Errorf("a stranger was told %q", body)
				}
			})
		})
	}
}

// H18 (hostile review): a redirect leads to the requested host and to no other
// site, whatever the form of the request's target.
func TestRedirectsStayOnTheHost(t *testing.T) {
	m := &certmgr.Manager{Hosts: certmgr.MustAllowlist(host), Audit: new(recorder).hook}
	defer m.Close()
	srv := httptest.NewServer(m.HTTPHandler(nil))
	defer srv.Close()
	for name, target := range map[string]string{
		"path":             "/x?y=1",
		"opaque, userinfo": "http:@evil.test/",
		"opaque, suffix":   "http:.evil.test/",
		"other scheme":     "x:@evil.test/",
		"two slashes":      "//evil.test/x",
		"backslash":        `/\evil.test/x`,
		"CR and LF":        "/%0d%0aSet-Cookie:x=1",
	} {
		table.Run(t, "H18/"+name, func(t *T) {
			res := rawRequest(t, srv.Listener.Addr().String(), "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
			location := res.Header.Get("Location")
			u, err := url.Parse(location)
			if res.StatusCode == http.StatusFound && (err != nil || u.Scheme != "https" || u.Hostname() != host || u.User != nil) {
				t.Errorf("redirected to %q", location)
			}
			if len(res.Cookies()) != 0 {
				t.Errorf("cookies %v", res.Cookies())
			}
		})
	}
}

// rawRequest sends bytes and reads one reply.
func rawRequest(t *T, addr, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// H19 (hostile review): the answer to a live http-01 challenge is given only
// for its own host, as documented.
func TestTokenIsForItsHost(t *testing.T) {
	table.Run(t, "H19", func(t *T) {
		bubble(t, func(t *T, w *world) {
			const other = "other.example.com"
			w.m.Hosts.Add(other)
			var mu sync.Mutex
			served := make(map[string]int)
			handler := w.m.HTTPHandler(nil)
			w.ca.Resolve("*", acmetest.Target{HTTPHandler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				for _, name := range []string{other, host} {
					served[name] = getToken(w.m, name, strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")).Code
				}
				handler.ServeHTTP(rw, r)
			})})
			mustObtain(t, w, host)
			mu.Lock()
			defer mu.Unlock()
			if served[host] != http.StatusOK || served[other] != http.StatusNotFound {
				t.Errorf("status by host: %v, want 200 for %s and 404 for %s", served, host, other)
			}
		})
	})
}
