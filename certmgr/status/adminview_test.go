package status_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/status"
)

// getWith is get for a handler with options.
func getWith(t *testing.T, s status.Source, target string, options ...status.Option) *httptest.ResponseRecorder {
	t.Helper()
	w := serve(status.Handler(s, options...), httptest.NewRequest(http.MethodGet, target, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return w
}

func TestPageHasButtonsWhereItIsTold(t *testing.T) {
	s := everyState()
	s.snap.HostsFile = "/etc/server/<hosts>.txt"
	const (
		form    = `<form class="act" method="post" action="/debug/certs/admin">`
		reload  = `value="reload">Reload the allowlist</button> <span class="at">/etc/server/&lt;hosts&gt;.txt</span>`
		backoff = form + `<input type="hidden" name="host" value="backoff.example"><button name="action" value="retry">Retry now</button></form>`
		late    = form + `<input type="hidden" name="host" value="late.example"><button name="action" value="renew">Renew now</button></form>`
		valid   = form + `<input type="hidden" name="host" value="valid.example"><button name="action" value="renew">Renew now</button></form>`
		revoke  = `<button name="action" value="revoke">`
		obtain  = `have the program call <code>m.Obtain(ctx, &#34;backoff.example&#34;)</code>`
		renew   = `have the program call <code>m.Renew(ctx, &#34;late.example&#34;)</code>`
	)
	at := status.AdminAt("/debug/certs/admin")
	for _, tt := range []struct {
		name    string
		target  string
		options []status.Option
		has     []string
		lacks   []string
	}{
		{"read-only", "/", nil, []string{obtain, renew}, []string{`method="post"`, "<button name"}},
		{"read-only, a host", "/?host=backoff.example", []status.Option{status.AllowRevoke()}, []string{obtain}, []string{`method="post"`, revoke}},
		{"buttons", "/", []status.Option{at}, []string{reload, backoff, late}, []string{obtain, revoke, valid, `value="issuing.example"`}},
		{"a host", "/?host=valid.example", []status.Option{at}, []string{valid}, []string{revoke}},
		{"revoke", "/?host=valid.example", []status.Option{at, status.AllowRevoke()}, []string{valid, revoke, `required><option value="">choose</option>`, "<option>keyCompromise</option>"}, nil},
		{"nothing to revoke", "/?host=backoff.example", []status.Option{at, status.AllowRevoke()}, []string{backoff}, []string{revoke}},
		{"a script", "/", []status.Option{status.AdminAt("javascript:alert(1)")}, nil, []string{`action="javascript`}},
	} {
		w := getWith(t, s, tt.target, tt.options...)
		page := w.Body.String()
		for _, part := range tt.has {
			if !strings.Contains(page, part) {
				t.Errorf("%s: the page lacks %s", tt.name, part)
			}
		}
		for _, part := range tt.lacks {
			if strings.Contains(page, part) {
				t.Errorf("%s: the page has %s", tt.name, part)
			}
		}
		// With no-referrer, browsers send the forms with an Origin of null.
		want := "no-referrer"
		if strings.Contains(page, `method="post"`) {
			want = "same-origin"
		}
		if got := w.Header().Get("Referrer-Policy"); got != want {
			t.Errorf("%s: Referrer-Policy %s, want %s", tt.name, got, want)
		}
	}
}

func TestButtonsOfHostileNamesAreEscaped(t *testing.T) {
	for _, s := range hostile {
		page := getWith(t, poison(s, true), "/", status.AdminAt("admin"), status.AllowRevoke()).Body.String()
		if strings.Contains(page, s) {
			t.Errorf("%.30q: the page holds it as it is", s)
		}
	}
}
