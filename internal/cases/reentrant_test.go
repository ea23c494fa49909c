package cases

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/status"
)

// everything calls every method of a Manager, from within one of its callbacks.
func everything(ctx context.Context, m *certmgr.Manager) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	m.Snapshot()
	m.Metrics()
	m.StaleHosts(0)
	m.Hosts.Because("again").Add("z.example.com")
	m.Hosts.Remove("z.example.com")
	m.GetCertificate(hello(host))
	m.GetCertificate(hello("new.example.com"))
	m.Obtain(ctx, host)
	m.Renew(ctx, "b.example.com")
	m.Revoke(ctx, "c.example.com", acme.CRLReasonSuperseded)
	m.RollAccountKey(ctx)
	m.Start(ctx)
	status.Handler(m).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

// Tried by a hostile review, and held: callbacks may call the Manager or close
// it, and no handshake takes longer than the sum of its callbacks' bounds.
func TestCallbacksMayCallEverything(t *testing.T) {
	shut := func(_ context.Context, m *certmgr.Manager) { m.Close() }
	for name, call := range map[string]func(context.Context, *certmgr.Manager){"call everything": everything, "close": shut} {
		for where, install := range map[string]func(m *certmgr.Manager, c *hookedCache, call func(context.Context)){
			"audit": func(m *certmgr.Manager, _ *hookedCache, call func(context.Context)) {
				m.Audit = func(ctx context.Context, _ audit.Event) { call(ctx) }
			},
			"policy": func(m *certmgr.Manager, _ *hookedCache, call func(context.Context)) {
				m.HostPolicy = func(ctx context.Context, _ string) error { call(ctx); return nil }
			},
			"get": func(_ *certmgr.Manager, c *hookedCache, call func(context.Context)) {
				c.get = func(ctx context.Context, _ string) error { call(ctx); return nil }
			},
			"put": func(_ *certmgr.Manager, c *hookedCache, call func(context.Context)) {
				c.put = func(ctx context.Context, _ string) error { call(ctx); return nil }
			},
			"prompt": func(m *certmgr.Manager, _ *hookedCache, call func(context.Context)) {
				m.Prompt = func(string) bool { call(context.Background()); return true }
			},
		} {
			table.Run(t, fmt.Sprintf("held/%s, %s", where, name), func(t *T) {
				bubbleCA(t, func(ca *acmetest.Server) { ca.Terms = "https://terms.example" }, func(t *T, w *world) {
					c := new(hookedCache)
					w.cache = c
					w.restart(host, "b.example.com")
					w.m.HostPolicy = func(context.Context, string) error { return nil }
					var depth, calls atomic.Int32
					install(w.m, c, func(ctx context.Context) {
						if depth.Add(1) <= 3 && calls.Add(1) <= 30 {
							call(ctx, w.m)
						}
						depth.Add(-1)
					})
					for _, name := range []string{host, "b.example.com", "p.example.com", host} {
						begin := time.Now()
						w.get(name)
						if d := time.Since(begin); d > time.Minute {
							t.Errorf("a handshake for %s took %v", name, d)
						}
					}
					time.Sleep(time.Minute)
					begin := time.Now()
					w.m.Close()
					if d := time.Since(begin); d > time.Minute {
						t.Errorf("Close took %v", d)
					}
					time.Sleep(10 * time.Minute) // until all callbacks have returned
				})
			})
		}
	}
}

// blockedHandler is a slog.Handler that does not return.
type blockedHandler struct{ block chan struct{} }

func (b blockedHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (b blockedHandler) Handle(context.Context, slog.Record) error { <-b.block; return nil }
func (b blockedHandler) WithAttrs([]slog.Attr) slog.Handler        { return b }
func (b blockedHandler) WithGroup(string) slog.Handler             { return b }

// Tried by a hostile review, and held: a blocked log delays only Close, and
// that for a bounded time.
func TestLogThatBlocksDelaysNobody(t *testing.T) {
	table.Run(t, "held/blocked log", func(t *T) {
		old := slog.Default()
		defer slog.SetDefault(old)
		bubble(t, func(t *T, w *world) {
			b := blockedHandler{make(chan struct{})}
			defer close(b.block)
			slog.SetDefault(slog.New(b))
			w.m.Audit, w.m.Cache = nil, downCache{}
			begin := time.Now()
			for i := range 2000 {
				w.get(fmt.Sprintf("x%d.example.com", i))
				w.get(host)
			}
			if d := time.Since(begin); d > 0 {
				t.Errorf("4,000 refusals took %v", d)
			}
			if err := w.m.Close(); err == nil || time.Since(begin) > time.Minute {
				t.Errorf("Close after %v: %v, want an error that says that the log hangs", time.Since(begin), err)
			}
		})
	})
}
