package cases

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// An oddCache is a cache in memory with unusual behavior. A nil function
// changes nothing.
type oddCache struct {
	memory cache.Memory                                             // not embedded: caches written for autocert have no locks
	get    func(key string, data []byte, err error) ([]byte, error) // returns what Get does
	put    func(key string) error                                   // before Put
	del    func(key string, there bool) error                       // before Delete
}

func (c *oddCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.memory.Get(ctx, key)
	if c.get != nil {
		return c.get(key, data, err)
	}
	return data, err
}

func (c *oddCache) Put(ctx context.Context, key string, data []byte) error {
	if c.put != nil {
		if err := c.put(key); err != nil {
			return err
		}
	}
	return c.memory.Put(ctx, key, data)
}

func (c *oddCache) Delete(ctx context.Context, key string) error {
	if c.del != nil {
		_, err := c.memory.Get(ctx, key)
		if err := c.del(key, err == nil); err != nil {
			return err
		}
	}
	return c.memory.Delete(ctx, key)
}

// B30: caches with their own error for a missing key (1backend/1backend#385,
// rekby/lets-proxy2#77, caddyserver/certmagic#192). Either it works, or an
// error says what Get has to return.
func TestACacheThatDoesNotSayMissIsToldSo(t *testing.T) {
	for name, miss := range map[string]func(key string) ([]byte, error){
		"nil, nil":   func(string) ([]byte, error) { return nil, nil },
		"empty, nil": func(string) ([]byte, error) { return []byte{}, nil },
		"no such file": func(key string) ([]byte, error) {
			return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
		},
		"redis nil":      func(string) ([]byte, error) { return nil, errors.New("redis: nil") },
		"wrapped miss":   func(key string) ([]byte, error) { return nil, fmt.Errorf("%q: %w", key, autocert.ErrCacheMiss) },
		"miss with data": func(string) ([]byte, error) { return []byte("x"), autocert.ErrCacheMiss },
	} {
		table.Run(t, "B30/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Cache = &oddCache{get: func(key string, data []byte, err error) ([]byte, error) {
					if err != nil {
						return miss(key)
					}
					return data, nil
				}}
				_, err := w.until(host, time.Minute, time.Hour)
				if err != nil && !strings.Contains(err.Error(), "ErrCacheMiss") {
					t.Errorf("an hour without a certificate, and the error does not say that a miss is ErrCacheMiss: %v", err)
				}
			})
		})
	}
}

// B31: caches that know autocert's keys and fail for others
// (bradfitz/autocertdelegate, adtelligent/autocertcache). They work for
// autocert, so they must work for certmgr, which can do without its other
// entries.
func TestACacheThatKnowsNoOtherKeysWorks(t *testing.T) {
	unknown := errors.New("requested host is invalid")
	only := func(known func(key string) bool) *oddCache {
		return &oddCache{
			get: func(key string, data []byte, err error) ([]byte, error) {
				if !known(key) {
					return nil, unknown
				}
				return data, err
			},
			put: func(key string) error {
				if !known(key) {
					return unknown
				}
				return nil
			},
		}
	}
	for name, known := range map[string]func(key string) bool{
		"keys of autocert":    isAutocertKey,
		"no failures":         func(key string) bool { return !strings.HasSuffix(key, "+failure") },
		"no next account key": func(key string) bool { return !strings.HasSuffix(key, "+next") },
	} {
		table.Run(t, "B31/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Cache = only(known)
				if _, err := w.get(host); err != nil {
					t.Errorf("a visitor gets %v", err)
				}
			})
		})
	}
	table.Run(t, "B31/autocert", func(t *T) {
		bubble(t, func(t *T, w *world) {
			if _, err := w.autocert(only(isAutocertKey)).GetCertificate(ecdsaHello(host)); err != nil {
				t.Errorf("autocert does not work with it either: %v", err)
			}
		})
	})
}

// isAutocertKey reports whether autocert uses the key, if it has one host.
func isAutocertKey(key string) bool {
	base, suffix, _ := strings.Cut(key, "+")
	switch suffix {
	case "":
		return base == host || base == "acme_account.key"
	case "key":
		return base == "acme_account"
	case "http-01":
		return true
	}
	return base == host && (suffix == "rsa" || suffix == "token")
}

// B32: caches whose Delete fails for a missing key, like some on object stores.
// That is no error, and is not reported.
func TestDeletingWhatIsNotThereMayFail(t *testing.T) {
	for name, hello := range map[string]*tls.ClientHelloInfo{"ECDSA": ecdsaHello(host), "RSA": rsaHello(host)} {
		table.Run(t, "B32/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.Cache = &oddCache{del: func(_ string, there bool) error {
					if !there {
						return errors.New("storage: object doesn't exist")
					}
					return nil
				}}
				w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, 403, nil,
					acmetest.Problem{Type: "malformed", Detail: "not today"})
				if _, err := w.m.GetCertificate(hello); err == nil {
					t.Fatal("served, although the CA refused the order")
				}
				time.Sleep(2 * time.Minute)
				if _, err := w.m.GetCertificate(hello); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				for _, e := range w.events.of(audit.CacheWriteFailed) {
					t.Errorf("told: %v", e)
				}
			})
		})
	}
}
