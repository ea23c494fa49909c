package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/status"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// desk is a Manager with a CA, and what its operators use.
type desk struct {
	t       *testing.T
	ca      *acmetest.Server
	m       *certmgr.Manager
	handler http.Handler

	mu     sync.Mutex
	events []audit.Event
}

func alice(*http.Request) (string, error) { return "alice", nil }

// newDesk returns a desk whose Manager has a.example.com and b.example.com in the
// file of its list. Call it in a bubble.
func newDesk(t *testing.T, who func(*http.Request) (string, error), options ...status.Option) *desk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts.txt")
	if err := os.WriteFile(path, []byte("a.example.com\nb.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := certmgr.OpenAllowlist(path)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, ca: acmetest.NewUnstartedServer()}
	d.ca.StartMemory()
	d.m = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory),
		Hosts:  list,
		Client: &acme.Client{DirectoryURL: d.ca.URL, HTTPClient: d.ca.Client()},
		Audit:  d.hear,
	}
	d.ca.Resolve("*", acmetest.Target{TLSConfig: d.m.TLSConfig()})
	d.handler = status.Admin(d.m, who, options...)
	t.Cleanup(func() {
		d.m.Close()
		d.ca.Close()
	})
	return d
}

func (d *desk) hear(_ context.Context, e audit.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// of returns the events of a kind so far.
func (d *desk) of(kind audit.Kind) []audit.Event {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.events), func(e audit.Event) bool { return e.Kind != kind })
}

// post sends a form.
func (d *desk) post(form, accept string) *httptest.ResponseRecorder {
	d.t.Helper()
	return serve(d.handler, postOf(form, accept))
}

func postOf(form, accept string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/debug/certs/admin", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", accept)
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// postJSON sends a form as a program does, and returns the answer, which must
// take no time.
func (d *desk) postJSON(form string) (code int, answer map[string]any) {
	d.t.Helper()
	start := time.Now()
	w := d.post(form, "application/json")
	if spent := time.Since(start); spent != 0 {
		d.t.Errorf("%s took %v", form, spent)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		d.t.Fatalf("%s: %d, no JSON: %v: %s", form, w.Code, err, w.Body)
	}
	return w.Code, answer
}

func TestAdminLetsInWhoIsKnownAndFromHere(t *testing.T) {
	refuse := func(*http.Request) (string, error) { return "mallory", errors.New("the session of mallory has ended") }
	const secret = "the session of mallory has ended"
	for _, tt := range []struct {
		name    string
		method  string
		headers map[string]string
		who     func(*http.Request) (string, error)
		want    int
		audited string
	}{
		{"a program", "POST", nil, alice, 200, ""},
		{"a form of the page", "POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://example.com"}, alice, 200, ""},
		{"without fetch metadata", "POST", map[string]string{"Origin": "http://example.com"}, alice, 200, ""},
		{"another site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, alice, 403, "cross-origin"},
		{"another port or scheme", "POST", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://example.com"}, alice, 403, "cross-origin"},
		{"another site, old browser", "POST", map[string]string{"Origin": "https://evil.example"}, alice, 403, "cross-origin"},
		{"an opaque origin", "POST", map[string]string{"Origin": "null"}, alice, 403, "cross-origin"},
		{"GET", "GET", nil, alice, 405, ""},
		{"GET of another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, alice, 405, ""},
		{"HEAD", "HEAD", nil, alice, 405, ""},
		{"OPTIONS", "OPTIONS", nil, alice, 405, ""},
		{"PUT", "PUT", nil, alice, 405, ""},
		{"DELETE", "DELETE", nil, alice, 405, ""},
		{"post", "post", nil, alice, 405, ""},
		{"an error", "POST", nil, refuse, 403, secret},
		{"an error, GET", "GET", nil, refuse, 405, ""},
		{"no name", "POST", nil, func(*http.Request) (string, error) { return "", nil }, 403, "no name"},
		{"blanks", "POST", nil, func(*http.Request) (string, error) { return " \t\n", nil }, 403, "no name"},
		{"a panic", "POST", nil, func(*http.Request) (string, error) { panic("boom " + secret) }, 403, "boom " + secret},
		{"an abort", "POST", nil, func(*http.Request) (string, error) { panic(http.ErrAbortHandler) }, 403, "abort"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, tt.who)
				r := httptest.NewRequest(tt.method, "/", strings.NewReader("action=reload"))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				for name, value := range tt.headers {
					r.Header.Set(name, value)
				}
				w := serve(d.handler, r)
				if w.Code != tt.want {
					t.Fatalf("%d %s, want %d", w.Code, w.Body, tt.want)
				}
				if strings.Contains(w.Body.String(), secret) || strings.Contains(w.Body.String(), "mallory") {
					t.Errorf("the client is told why: %s", w.Body)
				}
				if w.Header().Get("Cache-Control") != "no-store" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
					t.Errorf("headers: %v", w.Header())
				}
				if done := len(d.of(audit.OperatorAction)) > 0; done != (tt.want == 200) {
					t.Errorf("something was done: %v", done)
				}
				refused := d.of(audit.OperatorActionFailed)
				if tt.audited == "" && len(refused) == 0 {
					return
				}
				if len(refused) != 1 || !strings.Contains(refused[0].Err.Error(), tt.audited) || refused[0].RemoteAddr != r.RemoteAddr || refused[0].Actor != "" {
					t.Errorf("audited: %v", refused)
				}
			})
		})
	}
}

// Whoever ends the goroutine of who has done nothing.
func TestAdminSurvivesWhoThatEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(*http.Request) (string, error) { runtime.Goexit(); return "alice", nil })
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.post("action=reload", "*/*")
		}()
		<-done
		if len(d.of(audit.OperatorAction)) > 0 || len(d.of(audit.OperatorActionFailed)) != 1 {
			t.Errorf("events: %v", d.events)
		}
	})
}

func TestAdminNeedsAManagerAndWho(t *testing.T) {
	m := new(certmgr.Manager)
	defer m.Close()
	for says, f := range map[string]func(){
		"without a Manager":  func() { status.Admin(nil, alice) },
		"without a function": func() { status.Admin(m, nil) },
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, says) {
					t.Errorf("Admin panics with %q, want %q", text, says)
				}
			}()
			f()
			t.Errorf("Admin %s does not panic", says)
		}()
	}
}

// Each action, as a program sees it; the CA stalls, so nothing waits for it.
func TestAdminAnswersAtOnceAndTheAuditHasTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, alice, status.AllowRevoke())
		stall := d.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
		code, a := d.postJSON("action=retry&host=A.Example.com.")
		if code != 202 || a["state"] != "begun" || a["host"] != "a.example.com" || a["action"] != "retry" {
			t.Fatalf("retry: %d %v", code, a)
		}
		time.Sleep(time.Second)
		if code, a = d.postJSON("action=retry&host=a.example.com"); code != 202 || a["state"] != "in_flight" || a["stage"] != "order" || a["since"] == nil {
			t.Errorf("retry again: %d %v", code, a)
		}
		stall.Lift()
		time.Sleep(time.Second)
		if code, a = d.postJSON("action=retry&host=a.example.com"); code != 200 || a["state"] != "unneeded" {
			t.Errorf("retry of a valid host: %d %v", code, a)
		}
		w := d.post("action=renew&host=a.example.com", "application/json")
		if w.Code != 429 || w.Header().Get("Retry-After") != "58" || !strings.Contains(w.Body.String(), `"retry_at"`) {
			t.Errorf("renew too soon: %d %v %s", w.Code, w.Header(), w.Body)
		}
		time.Sleep(time.Minute)
		if code, a = d.postJSON("action=renew&host=a.example.com"); code != 202 || a["state"] != "begun" {
			t.Errorf("renew: %d %v", code, a)
		}
		time.Sleep(time.Second)
		if code, a = d.postJSON("action=reload"); code != 200 || a["state"] != "done" || a["entries"] != 2.0 {
			t.Errorf("reload: %d %v", code, a)
		}
		code, a = d.postJSON("action=revoke&host=a.example.com&reason=superseded&confirm=a.example.com")
		if code != 202 || a["state"] != "begun" {
			t.Errorf("revoke: %d %v", code, a)
		}
		time.Sleep(time.Second)
		if n := len(d.ca.Revoked()); n != 1 {
			t.Errorf("%d certificates were revoked", n)
		}
		for _, kind := range []audit.Kind{audit.OperatorAction, audit.IssuanceStarted, audit.CertificateIssued, audit.AllowlistReloaded, audit.CertificateRevoked} {
			events := d.of(kind)
			if len(events) == 0 || events[0].Actor != "alice" {
				t.Errorf("%s has no event of alice: %v", kind, events)
			}
		}
		if e := d.of(audit.OperatorAction)[0]; e.Host != "a.example.com" || e.RemoteAddr != "192.0.2.1:1234" || e.Reason != "retry" {
			t.Errorf("event: %v", e)
		}
	})
}

// The names that who returns are bounded and escaped, and so is its error.
func TestAdminEscapesWho(t *testing.T) {
	for _, s := range hostile {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, func(*http.Request) (string, error) { return "x" + s, nil })
			d.post("action=reload", "*/*")
			refusing := status.Admin(d.m, func(*http.Request) (string, error) { return "", errors.New(s) })
			serve(refusing, postOf("action=reload", "*/*"))
			for _, kind := range []audit.Kind{audit.OperatorAction, audit.OperatorActionFailed} {
				e := d.of(kind)[0]
				line, err := json.Marshal(e)
				if err != nil || len(e.Actor) > 128 || len(line) > 8192 || strings.ContainsAny(e.String(), "\n\r\x00\x1b\u202e") {
					t.Errorf("%.30q: %v: %s", s, err, line)
				}
			}
		})
	}
}

// The Host of a request is looked at as for the page.
func TestAdminRefusesReboundNames(t *testing.T) {
	m := &certmgr.Manager{Hosts: certmgr.MustAllowlist("a.example.com"), Cache: new(cache.Memory), Audit: func(context.Context, audit.Event) {}}
	defer m.Close()
	h := status.Admin(m, alice, status.ServedAs("certs.internal.example"))
	const passed = http.StatusNotFound
	for host, want := range map[string]int{
		"localhost:6060":              passed,
		"127.0.0.1:6060":              passed,
		"[::1]:6060":                  passed,
		"certs.internal.example:6060": passed,
		"evil.example:6060":           http.StatusMisdirectedRequest,
		"192.0.2.1":                   http.StatusMisdirectedRequest,
		"localhost.evil.example":      http.StatusMisdirectedRequest,
		"":                            http.StatusMisdirectedRequest,
	} {
		for local, loopback := range map[string]bool{"127.0.0.1:6060": true, "[::1]:6060": true, "192.0.2.7:443": false} {
			addr, err := net.ResolveTCPAddr("tcp", local)
			if err != nil {
				t.Fatal(err)
			}
			r := postOf("action=retry&host=other.example.net", "*/*")
			r.Host = host
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr)))
			want := want
			if !loopback {
				want = passed
			}
			if w := serve(h, r); w.Code != want {
				t.Errorf("Host %q at %s: %d, want %d", host, local, w.Code, want)
			}
		}
	}
}
