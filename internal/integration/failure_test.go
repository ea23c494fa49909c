package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// Nothing listens where the CA connects to. One attempt is made, with one order
// for each challenge type; later handshakes fail with the reason, without
// another request to the CA, even after a restart.
func TestFailedValidation(t *testing.T) {
	p := startPebble(t, pebbleConfig{})
	for _, c := range []struct {
		name  string
		host  string
		http  bool
		types []string
	}{
		{"tls-alpn-01 alone", "alpn.example.org", false, []string{"tls-alpn-01"}},
		{"both challenge types", "both.example.org", true, []string{"tls-alpn-01", "http-01"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := &watchedCache{key: c.host + "+failure", put: make(chan struct{})}
			m := newManager(t, p, stored, c.host)
			if c.http {
				m.HTTPHandler(nil)
			}
			err := m.Obtain(t.Context(), c.host)
			wantIssuanceError(t, err, c.host, audit.StageChallenge, "unauthorized")
			for _, typ := range c.types {
				if !strings.Contains(err.Error(), typ) {
					t.Errorf("%s is missing in: %v", typ, err)
				}
			}
			wantBackoff(t, m, c.host)
			stored.wait(t)
			m.close(t)
			if n := m.traffic.sent(newOrder); n != len(c.types) {
				t.Errorf("%d orders, want %d", n, len(c.types))
			}
			if n := m.traffic.sent(challenge); n != len(c.types) {
				t.Errorf("%d challenges, want %d", n, len(c.types))
			}
			var tried []string
			for _, e := range m.events.of(audit.ChallengeFailed) {
				typ, _, _ := strings.Cut(e.Reason, ":")
				tried = append(tried, typ)
			}
			if !slices.Equal(tried, c.types) {
				t.Errorf("events of failed challenges: %q, want %q", tried, c.types)
			}
			if n := len(m.events.of(audit.IssuanceFailed)); n != 1 {
				t.Errorf("%d failed attempts, want 1", n)
			}

			// A restart earns the host an attempt, twice an hour.
			for n := range 3 {
				restarted := newManager(t, p, stored, c.host)
				if c.http {
					restarted.HTTPHandler(nil)
				}
				err := restarted.handshake(t, c.host)
				restarted.close(t)
				if n < 2 {
					if failed, ok := errors.AsType[*certmgr.IssuanceError](err); !ok || failed.Attempts != n+2 || errors.Is(err, certmgr.ErrBackoff) {
						t.Errorf("after restart %d: %v, want the failure of another attempt", n+1, err)
					}
					continue
				}
				if !errors.Is(err, certmgr.ErrBackoff) {
					t.Errorf("after the third restart: %v, want ErrBackoff", err)
				}
				restarted.traffic.wantNone(t)
			}
		})
	}
}

// watchedCache reports when key was written, which happens in the background.
type watchedCache struct {
	cache.Memory
	key  string
	once sync.Once
	put  chan struct{}
}

func (c *watchedCache) Put(ctx context.Context, key string, data []byte) error {
	err := c.Memory.Put(ctx, key, data)
	if key == c.key && err == nil {
		c.once.Do(func() { close(c.put) })
	}
	return err
}

func (c *watchedCache) wait(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	select {
	case <-c.put:
	case <-ctx.Done():
		t.Fatalf("%q was not written to the cache", c.key)
	}
}

// wantBackoff makes handshakes and checks their errors.
func wantBackoff(t *testing.T, m *manager, host string) {
	t.Helper()
	before := len(m.traffic.all())
	for range 3 {
		err := m.handshake(t, host)
		if !errors.Is(err, certmgr.ErrBackoff) {
			t.Errorf("a visitor got %v, want ErrBackoff", err)
		}
		if _, ok := errors.AsType[*acme.Error](err); !ok {
			t.Errorf("no *acme.Error in: %v", err)
		}
	}
	if n := len(m.traffic.all()) - before; n != 0 {
		t.Errorf("%d requests to the CA for visitors", n)
	}
}

// handshake returns the server's error of a handshake, with a real ClientHello.
func (m *manager) handshake(t *testing.T, host string) error {
	t.Helper()
	got := make(chan error, 1)
	config := m.TLSConfig()
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := m.GetCertificate(hello)
		got <- err
		return cert, err
	}
	if _, err := visit(t.Context(), serveTLS(t, listen(t), config), host, nil, nil); err == nil {
		t.Error("the handshake succeeded")
	}
	select {
	case err := <-got:
		return err
	default:
		t.Error("the handshake did not ask for a certificate")
		return nil
	}
}
