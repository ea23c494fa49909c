package cases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// downCache is a cache that is unavailable.
type downCache struct{}

var errDown = errors.New("connection refused")

func (downCache) Get(context.Context, string) ([]byte, error) { return nil, errDown }
func (downCache) Put(context.Context, string, []byte) error   { return errDown }
func (downCache) Delete(context.Context, string) error        { return errDown }

// getToken is a stranger's request for an http-01 answer.
func getToken(m *certmgr.Manager, name, token string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	m.HTTPHandler(nil).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://"+name+"/.well-known/acme-challenge/"+token, nil))
	return rec
}

// longToken is syntactically a token, but too long for a file name.
func longToken(i int) string { return fmt.Sprintf("%0250d", i) }

// H02 (hostile review): events about keys that strangers choose are coalesced:
// tokens and names that no file system accepts, or any while the cache is down.
func TestStrangersMakeFewEvents(t *testing.T) {
	label := strings.Repeat("a", 60)
	tests := []struct {
		name string
		set  func(t *T, m *certmgr.Manager)
		ask  func(m *certmgr.Manager, i int)
	}{
		{"tokens too long for Dir", func(t *T, m *certmgr.Manager) { m.Cache = cache.Dir(t.TempDir()) },
			func(m *certmgr.Manager, i int) { getToken(m, host, longToken(i)) }},
		{"names too long for Dir", func(t *T, m *certmgr.Manager) {
			m.Cache, m.HostPolicy = cache.Dir(t.TempDir()), certmgr.AllowAnyHost
		}, func(m *certmgr.Manager, i int) {
			m.GetCertificate(hello(fmt.Sprintf("n%07d.%s.%s.%s.%s.com", i, label, label, label, strings.Repeat("b", 57))))
		}},
		{"tokens during an outage", func(t *T, m *certmgr.Manager) { m.Cache = downCache{} },
			func(m *certmgr.Manager, i int) { getToken(m, host, fmt.Sprint("token", i)) }},
		{"names during an outage", func(t *T, m *certmgr.Manager) {
			m.Cache, m.Hosts = downCache{}, certmgr.MustAllowlist("*.example.com")
		}, func(m *certmgr.Manager, i int) { m.GetCertificate(hello(fmt.Sprintf("x%d.example.com", i))) }},
		{"challenges during an outage", func(t *T, m *certmgr.Manager) {
			m.Cache, m.Hosts = downCache{}, certmgr.MustAllowlist("*.example.com")
		}, func(m *certmgr.Manager, i int) { m.GetCertificate(challenge(fmt.Sprintf("x%d.example.com", i))) }},
	}
	for _, tt := range tests {
		table.Run(t, "H02/"+tt.name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.HandshakeWait = -1
				tt.set(t, w.m)
				for i := range 300 {
					tt.ask(w.m, i)
					time.Sleep(10 * time.Millisecond)
				}
				synctest.Wait()
				if n := len(w.events.of(audit.CacheReadFailed)); n > 20 {
					t.Errorf("300 requests of strangers made %d events", n)
				}
			})
		})
	}
	table.Run(t, "H02/log lines", func(t *T) {
		var lines atomic.Int32
		old := slog.Default()
		defer slog.SetDefault(old)
		slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			lines.Add(1)
			return len(p), nil
		}), nil)))
		bubble(t, func(t *T, w *world) {
			w.m.Audit, w.m.Cache = nil, cache.Dir(t.TempDir())
			for i := range 300 {
				getToken(w.m, host, longToken(i))
			}
			w.m.Close()
			if n := lines.Load(); n > 20 {
				t.Errorf("300 requests of strangers wrote %d lines to slog.Default()", n)
			}
		})
	})
}

// H02 (hostile review): events that strangers cause never displace a real event
// from a slow hook.
func TestStrangersHideNoEvent(t *testing.T) {
	table.Run(t, "H02/real events arrive", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Cache = cache.Dir(t.TempDir())
			w.m.Audit = func(ctx context.Context, e audit.Event) {
				time.Sleep(time.Millisecond)
				w.events.hook(ctx, e)
			}
			for i := range 6000 {
				getToken(w.m, host, longToken(i))
			}
			w.m.Hosts.Because("security incident").Remove(host)
			time.Sleep(time.Minute)
			if n := len(w.events.of(audit.HostUnlisted)); n != 1 {
				t.Errorf("%d events of Remove, want 1; %d events were dropped", n, w.m.Metrics().EventsDropped)
			}
		})
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
