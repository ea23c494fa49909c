package cases

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// Tried by a hostile review, and held: with two machines, one cache, a list
// that changes all the time and concurrent calls of every method, no host is
// served another one's certificate, and no handshake exceeds its bounds.
func TestStormServesNoForeignCertificate(t *testing.T) {
	table.Run(t, "held/storm", func(t *T) {
		bubble(t, func(t *T, w *world) {
			name := func() string { return fmt.Sprintf("h%d.example.com", rand.IntN(6)) }
			visit := func(_ context.Context, m *certmgr.Manager) {
				asked, begin := name(), time.Now()
				cert, err := m.GetCertificate(hello(asked))
				if d := time.Since(begin); d > 11*time.Second {
					t.Errorf("a handshake took %v", d)
				}
				if err != nil {
					return
				}
				if err := cert.Leaf.VerifyHostname(asked); err != nil {
					t.Error(err)
				}
				cert.Certificate = append(cert.Certificate, []byte("the caller's own"))
			}
			actions := []func(ctx context.Context, m *certmgr.Manager){
				visit, visit, visit,
				func(ctx context.Context, m *certmgr.Manager) { m.Obtain(ctx, name()) },
				func(ctx context.Context, m *certmgr.Manager) { m.Renew(ctx, name()) },
				func(ctx context.Context, m *certmgr.Manager) { m.RollAccountKey(ctx) },
				func(ctx context.Context, m *certmgr.Manager) { m.Revoke(ctx, name(), acme.CRLReasonKeyCompromise) },
				func(ctx context.Context, m *certmgr.Manager) { m.Start(ctx) },
				func(_ context.Context, m *certmgr.Manager) { m.Hosts.Add(name()) },
				func(_ context.Context, m *certmgr.Manager) { m.Hosts.Remove(name()) },
				func(_ context.Context, m *certmgr.Manager) { m.Snapshot(); m.Metrics(); m.StaleHosts(time.Second) },
			}
			for range 3 { // generations of processes
				var wg sync.WaitGroup
				for _, m := range []*certmgr.Manager{w.manager("h0.example.com"), w.manager("h1.example.com")} {
					m.Backoff, m.InFlightWait = []time.Duration{time.Second}, 100*time.Millisecond
					for _, act := range actions {
						wg.Go(func() {
							for range 15 {
								ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(100))*time.Millisecond)
								act(ctx, m)
								cancel()
								time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
							}
						})
					}
					time.AfterFunc(time.Duration(rand.IntN(10_000))*time.Millisecond, func() { m.Close() })
					defer m.Close()
				}
				wg.Wait()
			}
		})
	})
}
