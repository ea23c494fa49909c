package certmgr_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
)

// httpCase is a port 80 that the name leads to, while nothing listens on 443.
type httpCase struct {
	name string
	set  func(t *testing.T, w *world, n *internet, h http.Handler)
	want string // the finding of port 80; empty: it passes
	mute bool   // it says nothing about the name
}

func redirect(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.ReplaceAll(to, "PATH", r.URL.Path), http.StatusFound)
	})
}

func on80(h http.Handler) func(*testing.T, *world, *internet, http.Handler) {
	return func(_ *testing.T, _ *world, n *internet, _ http.Handler) { n.listen("192.0.2.1:80", serveHTTP(h)) }
}

func onWire(text string) func(*testing.T, *world, *internet, http.Handler) {
	return func(_ *testing.T, _ *world, n *internet, _ http.Handler) { n.listen("192.0.2.1:80", serveText(text)) }
}

var httpCases = []httpCase{
	{"its handler", func(_ *testing.T, _ *world, n *internet, h http.Handler) { n.listen("192.0.2.1:80", serveHTTP(h)) }, "", false},
	{"with white space after it", func(_ *testing.T, _ *world, n *internet, h http.Handler) {
		n.listen("192.0.2.1:80", serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			io.WriteString(w, " \r\n")
		})))
	}, "", false},
	{"by https of the same host", func(t *testing.T, _ *world, n *internet, h http.Handler) {
		n.listen("192.0.2.1:80", serveHTTP(redirect("https://A.example.com.:443PATH")))
		n.listen("192.0.2.1:443", serveTLS(otherServer(t, nil, "a.example.com"), serveHTTP(h)))
	}, "", false},
	{"by another path", func(_ *testing.T, _ *world, n *internet, h http.Handler) {
		n.listen("192.0.2.1:80", serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if path, ok := strings.CutPrefix(r.URL.Path, "/elsewhere"); ok {
				r.URL.Path = path
				h.ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, "/elsewhere"+r.URL.Path, http.StatusMovedPermanently)
		})))
	}, "", false},
	{"another answer", on80(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })),
		"status 200 with another answer", false},
	{"an answer that goes on", on80(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 1<<20))
	})), "status 200 with another answer", false},
	{"the answer with another status", func(_ *testing.T, _ *world, n *internet, h http.Handler) {
		n.listen("192.0.2.1:80", serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			h.ServeHTTP(w, r)
		})))
	}, "status 203", false},
	{"a Manager that does not know the host", func(_ *testing.T, _ *world, n *internet, h http.Handler) {
		n.listen("192.0.2.1:80", serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host = "internal.example.net" // a proxy's doing
			h.ServeHTTP(w, r)
		})))
	}, "status 403: certmgr: host not allowed (does a proxy change the Host?)", false},
	{"to another host", on80(redirect("http://www.example.com/x")), `redirects to "http://www.example.com/x", not followed`, true},
	{"to another port", on80(redirect("http://a.example.com:8080PATH")), `redirects to "http://a.example.com:8080/.well-known/acme-challenge/`, false},
	{"to another scheme", on80(redirect("gopher://a.example.com/")), `CAs follow http on port 80 and https on port 443 only`, false},
	{"to an address", on80(redirect("http://127.0.0.1/")), `redirects to "http://127.0.0.1/"`, false},
	{"to the metadata service", on80(redirect("http://169.254.169.254/latest")), `redirects to "http://169.254.169.254/latest"`, false},
	{"to itself", on80(redirect("PATH")), "redirects without end", false},
	{"to no URL", on80(redirect("http://[")), "redirects to an invalid URL", false},
	{"to https where nothing listens", on80(redirect("https://a.example.com/")), "192.0.2.1: connection refused", false},
	{"no HTTP", onWire("220 mail ESMTP\r\n"), "does not speak HTTP", false},
	{"a head without end", onWire("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), "closes the connection without an answer", false},
	{"interim answers without end", onWire(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10_000)), "closes the connection without an answer", false},
	{"silence", func(_ *testing.T, _ *world, n *internet, _ http.Handler) { n.listen("192.0.2.1:80", serveSilence) },
		"accepts the connection but sends nothing (timeout)", false},
	{"a hostile name", onWire("HTTP/1.1 500 no\r\nServer: \u202e" + strings.Repeat("evil\" ", 100) + "\r\n\r\n"), `status 500 from "\u202eevil`, false},
	{"a head that is none", onWire("HTTP/1.1 200 OK\r\nX: \x1b[2J\r\n\r\n"), "does not speak HTTP", false},
}

func TestPreflightByHTTP(t *testing.T) {
	for _, tt := range httpCases {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				n := w.preflight(preflight.Report)
				n.listen("192.0.2.1:443", nil)
				tt.set(t, w, n, w.m.HTTPHandler(nil))
				found := w.check()
				i := slices.IndexFunc(found.Findings, func(f preflight.Finding) bool { return f.Challenge == challenge.HTTP01 })
				if i < 0 || found.Findings[i].OK != (tt.want == "") {
					t.Fatalf("found %+v", found.Findings)
				}
				line := found.Error()
				if !strings.Contains(line, tt.want) || len(line) > maxPreflightText || strings.ContainsAny(line, "\x1b\u202e\r\n") {
					t.Errorf("%s\ndoes not say %q", line, tt.want)
				}
				if found.Reachable != (tt.want == "") || found.Undecided != tt.mute || errors.Is(found, certmgr.ErrUnreachable) != (tt.want != "" && !tt.mute) {
					t.Errorf("reachable %v, undecided %v: %s", found.Reachable, found.Undecided, line)
				}
				if answer := found.Findings[i].Answer; answer != text.OneLine(answer, maxAnswerText) {
					t.Errorf("an answer that is not escaped: %q", answer)
				}
				for _, address := range n.dialled {
					if host, port, _ := net.SplitHostPort(address); host != "192.0.2.1" || port != "80" && port != "443" {
						t.Errorf("dialled %s", address)
					}
				}
				if len(n.lookups) != 1 {
					t.Errorf("looked up %q", n.lookups)
				}
			})
		})
	}
}

// A redirect to https finds what a CA finds: a host without a certificate.
func TestPreflightByHTTPSWithoutACertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		w.m.HTTPHandler(nil)
		n.listen("192.0.2.1:80", serveHTTP(redirect("https://a.example.com/")))
		w.mustGet("a.example.com")
		const want = `port 80 of 192.0.2.1: redirects to https, where TLS fails with "internal error"; the rest leads here`
		if e := w.events.of(audit.HostUnreachable); len(e) != 1 || !strings.Contains(e[0].Err.Error(), want) {
			t.Errorf("events: %v", e)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// What a peer's certificate says is escaped and bounded.
func TestPreflightEscapesACertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		names := []string{"\x1b[31m\n" + strings.Repeat("a", 1000), "b.example", "c.example"}
		for range 500 {
			names = append(names, "x.example")
		}
		n.listen("192.0.2.1:443", serveTLS(otherServer(t, nil, names...), nil))
		start := time.Now()
		line := w.check().Error()
		if strings.ContainsAny(line, "\x1b\n") || len(line) > maxPreflightText || !strings.Contains(line, `\x1b[31m\n`) {
			t.Errorf("%q", line)
		}
		if !strings.Contains(line, "and 500 more names") || !strings.HasSuffix(line, "or take it off the list") {
			t.Errorf("%q", line)
		}
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

// The same over real sockets, with net/http's own server, and a Dial that leads
// the standard ports to those of the test.
func TestPreflightOverSockets(t *testing.T) {
	w := newSocketWorld(t)
	for _, useful := range []bool{true, false} {
		err := w.obtain(t, useful)
		if useful && err != nil {
			t.Errorf("a name that leads here: %v", err)
		}
		if !useful && (!errors.Is(err, certmgr.ErrUnreachable) || !strings.Contains(err.Error(), "connection refused")) {
			t.Errorf("a name that leads nowhere: %v", err)
		}
	}
}
