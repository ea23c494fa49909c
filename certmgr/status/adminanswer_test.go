package status_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/status"
)

// A browser on loopback: the form, the redirect, and the page with the notice,
// below a prefix that the handlers do not see.
func TestAdminSendsABrowserBackToThePage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.txt")
	if err := os.WriteFile(path, []byte("a.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := certmgr.OpenAllowlist(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &certmgr.Manager{Hosts: list, Cache: new(cache.Memory), Audit: func(context.Context, audit.Event) {}}
	defer m.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/certs/", http.StripPrefix("/debug/certs", status.Handler(m, status.AdminAt("admin"))))
	mux.Handle("/debug/certs/admin", http.StripPrefix("/debug/certs", status.Admin(m, alice)))
	mux.Handle("/elsewhere", status.Admin(m, alice, status.PageAt("/debug/certs/")))
	site := httptest.NewServer(mux)
	defer site.Close()
	for _, admin := range []string{"/debug/certs/admin", "/elsewhere"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.URL+admin, strings.NewReader("action=reload"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", browser)
		r.Header.Set("Origin", site.URL)
		resp, err := site.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Request.URL; got.Path != "/debug/certs/" || got.Query().Get("notice") != "reload-done" || resp.Request.Method != http.MethodGet {
			t.Errorf("%s leads to %s", admin, got)
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "The allowlist&#39;s file was read.") {
			t.Errorf("%s: the page does not say what was done: %s %.300s", admin, resp.Status, body)
		}
	}
}

func TestAdminErrorInABrowserLeadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, alice)
		w := d.post("action=retry&host=other.example.net", browser)
		if w.Code != 404 || !strings.Contains(w.Body.String(), `<a href="./">`) || !strings.Contains(w.Body.String(), "other.example.net") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		w = d.post("action=retry&host=a.example.com", browser)
		if got := w.Header().Get("Location"); w.Code != 303 || got != "./?host=a.example.com&notice=retry-begun" {
			t.Errorf("%d to %q", w.Code, got)
		}
	})
}

// Anybody can make up a link with a notice: only those of the set are shown.
func TestNoticesAreOfAClosedSet(t *testing.T) {
	plain := get(t, everyState(), "/").Body.String()
	for _, n := range []string{"you+are+hacked", "retry-begun2", "%3Cb%3E", strings.Repeat("x", 2000)} {
		if got := get(t, everyState(), "/?notice="+n).Body.String(); got != plain {
			t.Errorf("the page with the notice %.30s differs", n)
		}
	}
}

// The notices of all answers exist.
func TestEveryAnswerHasANotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, alice, status.AllowRevoke())
		for _, form := range []string{
			"action=retry&host=a.example.com", "action=retry&host=a.example.com", "action=renew&host=b.example.com", "action=renew&host=b.example.com",
			"action=revoke&host=a.example.com&reason=superseded&confirm=a.example.com", "action=reload",
		} {
			w := d.post(form, browser)
			u, err := url.Parse(w.Header().Get("Location"))
			if err != nil || w.Code != 303 || u.Query().Get("notice") == "" {
				t.Errorf("%s: %d %q", form, w.Code, w.Header().Get("Location"))
			}
			if code, a := d.postJSON(form); a["text"] == nil && a["error"] == nil {
				t.Errorf("%s: %d %v", form, code, a)
			}
		}
	})
}
