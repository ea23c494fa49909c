package status_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/status"
)

func TestOnlyGetAndHeadAreAllowed(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "X"} {
		w := httptest.NewRecorder()
		status.Handler(everyState()).ServeHTTP(w, httptest.NewRequest(method, "/", strings.NewReader("host=x")))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestHeadHasTheHeadersOfGetAndNoBody(t *testing.T) {
	g, w := get(t, everyState(), "/"), httptest.NewRecorder()
	status.Handler(everyState()).ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("%d and %d bytes", w.Code, w.Body.Len())
	}
	for name := range g.Header() {
		if got, want := w.Header().Get(name), g.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := g.Header().Get("Content-Length"); got != strconv.Itoa(g.Body.Len()) {
		t.Errorf("Content-Length %s for %d bytes", got, g.Body.Len())
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	for _, target := range []string{"/", "/?format=json", "/?sort=nonsense"} {
		h := get(t, everyState(), target).Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Cross-Origin-Resource-Policy": "same-origin", "Vary": "Accept, Accept-Encoding",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", target, name, got, want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "connect-src 'self'",
			"form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", target, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is not strict: %s", target, policy)
		}
	}
}

// The policy must allow the style and the script as html/template renders them.
func TestPolicyAllowsTheStyleAndTheScriptOfThePage(t *testing.T) {
	w := get(t, everyState(), "/")
	for _, kind := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+kind+`>(.*?)</`+kind+`>`).FindAllStringSubmatch(w.Body.String(), -1)
		if len(found) != 1 {
			t.Fatalf("the page has %d elements %s, want 1", len(found), kind)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		want := kind + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if regexp.MustCompile(`(?i)<[a-z][^>]* (style|on[a-z]+)=`).MatchString(w.Body.String()) {
		t.Error("the page has attributes that the policy forbids")
	}
}

func TestFormatFollowsParameterThenAccept(t *testing.T) {
	const page, data = "text/html; charset=utf-8", "application/json"
	for _, test := range []struct{ query, accept, want string }{
		{"", "", page},
		{"", "*/*", page},
		{"", "application/json", data},
		{"", "Application/JSON; charset=utf-8", data},
		{"", "text/html, application/json", page},
		{"", "text/html;q=0.5, application/json", data},
		{"", "application/json;q=0", page},
		{"", "nonsense;;;, ;q=, application/json", data},
		{"", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", page},
		{"?format=json", "text/html", data},
		{"?format=html", "application/json", page},
		{"?format=", "application/json", data},
	} {
		r, w := httptest.NewRequest(http.MethodGet, "/"+test.query, nil), httptest.NewRecorder()
		r.Header.Set("Accept", test.accept)
		status.Handler(everyState()).ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); got != test.want {
			t.Errorf("%s with Accept %q: %s, want %s", test.query, test.accept, got, test.want)
		}
		if got := json.Valid(w.Body.Bytes()); got != (test.want == data) {
			t.Errorf("%s with Accept %q: valid JSON is %v", test.query, test.accept, got)
		}
	}
}

func TestQueriesAreBounded(t *testing.T) {
	for _, query := range []string{
		"sort=nonsense", "sort=--host", "state=expird", "state=Valid", "page=0", "page=-1", "page=x", "page=99999999999999999999",
		"limit=0", "limit=1001", "limit=1e3", "format=xml", "q=" + strings.Repeat("a", 254), "host=" + strings.Repeat("a", 254),
		"x=" + strings.Repeat("a", 5000), "q=%zz", "a;b",
	} {
		w := get(t, everyState(), "/?"+query)
		if w.Code != http.StatusBadRequest || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%.40s: %d %s", query, w.Code, w.Header().Get("Content-Type"))
		}
		if w.Body.Len() > 300 {
			t.Errorf("%.40s: the answer repeats the query: %s", query, w.Body)
		}
	}
	for _, query := range []string{"", "q=&state=&sort=&page=&limit=&host=&format=", "unknown=1", "page=1048576", "limit=1000"} {
		if w := get(t, everyState(), "/?"+query); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// Wherever the handler is mounted, all links of the page are relative.
func TestLinksAreRelativeBelowAnyPrefix(t *testing.T) {
	h := status.Handler(many(300))
	mux := http.NewServeMux()
	mux.Handle("/debug/certs/", h)
	mux.Handle("/stripped/", http.StripPrefix("/stripped", h))
	mux.Handle("/exact", h)
	site := httptest.NewServer(mux)
	defer site.Close()
	link := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	for _, path := range []string{"/debug/certs/", "/debug/certs/deeper", "/stripped/", "/exact"} {
		resp, err := site.Client().Get(site.URL + path + "?q=host")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		links := link.FindAllStringSubmatch(string(body), -1)
		if resp.StatusCode != http.StatusOK || len(links) < 100 {
			t.Fatalf("%s: %s with %d links", path, resp.Status, len(links))
		}
		for _, l := range links {
			if !strings.HasPrefix(l[1], "?") && !strings.HasPrefix(l[1], "#") && !strings.HasPrefix(l[1], "data:image/svg+xml,") &&
				!strings.HasPrefix(l[1], "https://github.com/nostall/nostall/blob/main/docs/runbook.md#") {
				t.Errorf("%s: the link %s leads elsewhere", path, l[1])
			}
		}
	}
}

func TestManagerIsASource(t *testing.T) {
	m := &certmgr.Manager{Prompt: certmgr.AcceptTOS}
	defer m.Close()
	for _, target := range []string{"/", "/?format=json"} {
		if w := get(t, m, target); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if body := get(t, m, "/").Body.String(); !strings.Contains(body, "No hosts yet") {
		t.Error("the page does not say that there are no hosts")
	}
}
