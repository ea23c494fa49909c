package cases

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/preflight"
)

// oneAddress is a resolver.
type oneAddress struct{}

func (oneAddress) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

// dialTo returns a PreflightDial that always connects to a server in memory.
func dialTo(config *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			conn := tls.Server(server, config)
			conn.HandshakeContext(ctx)
			conn.Close()
		}()
		return client, nil
	}
}

// slowPuts delays each write of a tls-alpn-01 answer by d, or until the context
// ends if it respects contexts.
func slowPuts(d time.Duration, heeds bool) *hookedCache {
	return &hookedCache{put: func(ctx context.Context, key string) error {
		if !strings.HasSuffix(key, "+token") {
			return nil
		}
		if !heeds {
			ctx = context.WithoutCancel(ctx)
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// H03 (hostile review): a preflight that gave up its own cache write does not
// prevent the write of the real challenge's answer. The CA reaches another
// machine, which finds the answer there.
func TestPreflightLeavesTheCacheToTheChallenge(t *testing.T) {
	for name, tt := range map[string]struct {
		mode  preflight.Mode
		heeds bool
	}{
		"no preflight":               {preflight.Off, false},
		"cache that ignores context": {preflight.Report, false},
		"cache that heeds context":   {preflight.Report, true},
		"enforced":                   {preflight.Enforce, false},
	} {
		table.Run(t, "H03/"+name, func(t *T) {
			for range 5 {
				bubble(t, func(t *T, w *world) {
					w.cache = slowPuts(1500*time.Millisecond, tt.heeds)
					other, m := w.manager(host), w.manager(host)
					defer other.Close()
					defer m.Close()
					m.Preflight, m.PreflightResolver, m.PreflightDial = tt.mode, oneAddress{}, dialTo(other.TLSConfig())
					w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig()})
					if _, err := m.GetCertificate(hello(host)); err != nil {
						t.Errorf("not issued: %v", err)
					}
					time.Sleep(10 * time.Second) // for the clean-up
				})
			}
		})
	}
}

// H03 (hostile review): a callback that ends with its context, as it should, is
// not busy for the next call.
func TestCallbackThatHeedsItsContextIsNotBusy(t *testing.T) {
	table.Run(t, "H03/policy asked again at once", func(t *T) {
		for range 10 {
			bubble(t, func(t *T, w *world) {
				var hurried atomic.Bool
				w.m.Hosts, w.m.HandshakeWait = nil, -1
				w.m.HostPolicy = func(ctx context.Context, _ string) error {
					if !hurried.Load() {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				w.get(host)
				hurried.Store(true)
				if _, err := w.get(host); !errors.Is(err, certmgr.ErrInFlight) {
					t.Errorf("after a policy that was late: [%s] %v, want ErrInFlight", sentinels(err), err)
				}
				synctest.Wait()
			})
		}
	})
}
