package certmgr_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/challenge"
)

// http-01 requests get a fixed text for each status, whatever went wrong. The
// details go to the operator.
func TestStrangersLearnNothingByHTTP(t *testing.T) {
	const secret = "/srv/keys of postgres://certs:hunter2@db"
	fails := errors.New("open " + secret + ": permission denied")
	tests := []struct {
		name   string
		set    func(w *world)
		host   string
		status int
		text   string
		kind   audit.Kind // of the event that tells the operator
	}{
		{"no Host header", func(*world) {}, "", 403, "the request has no Host header", ""},
		{"not a host name", func(*world) {}, "10.0.0.1", 403, "host not allowed", ""},
		{"not on the list", func(*world) {}, "www.example.org", 403, "host not allowed", ""},
		{"refused by the policy", func(w *world) { w.m.HostPolicy = func(context.Context, string) error { return fails } },
			"www.example.org", 403, "host not allowed", ""},
		{"a policy that cannot decide", func(w *world) {
			w.m.HostPolicy = func(context.Context, string) error { return errors.Join(certmgr.ErrPolicy, fails) }
		}, "www.example.org", 403, "host not allowed", audit.PolicyFailed},
		{"a policy that panics", func(w *world) { w.m.HostPolicy = func(context.Context, string) error { panic(fails) } },
			"www.example.org", 403, "host not allowed", audit.PolicyFailed},
		{"closed", func(w *world) { w.m.Close() }, "a.example.com", 403, "host not allowed", ""},
		{"no such token", func(*world) {}, "a.example.com", 404, "no such http-01 challenge", ""},
		{"a cache that fails", func(w *world) { w.cache.get(func(context.Context, string) error { return fails }) },
			"a.example.com", 503, "http-01 challenges cannot be answered at the moment", audit.CacheReadFailed},
		{"a cache that panics", func(w *world) { w.cache.get(func(context.Context, string) error { panic(fails) }) },
			"a.example.com", 503, "http-01 challenges cannot be answered at the moment", audit.CacheReadFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(w)
				r := httptest.NewRequest("GET", challenge.Path+"token", nil)
				r.Host = tt.host
				rec := httptest.NewRecorder()
				w.m.HTTPHandler(nil).ServeHTTP(rec, r)
				if body := rec.Body.String(); rec.Code != tt.status || body != "certmgr: "+tt.text+"\n" {
					t.Errorf("status %d: %q", rec.Code, body)
				}
				for name, values := range rec.Result().Header {
					if strings.Contains(strings.Join(values, ""), "srv") {
						t.Errorf("the header %s: %q", name, values)
					}
				}
				time.Sleep(2 * time.Minute) // what is coalesced is told by then
				synctest.Wait()
				if tt.kind == "" {
					return
				}
				if e := w.events.of(tt.kind); len(e) == 0 || !strings.Contains(e[0].Err.Error(), secret) {
					t.Errorf("the operator was told %v", e)
				}
			})
		})
	}
}
