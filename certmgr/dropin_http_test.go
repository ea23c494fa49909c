package certmgr_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// TestHTTPHandlerIsAutocerts sends the same requests to both handlers.
func TestHTTPHandlerIsAutocerts(t *testing.T) {
	theirs := (&autocert.Manager{HostPolicy: autocert.HostWhitelist("example.com")})
	ours := (&certmgr.Manager{HostPolicy: certmgr.HostWhitelist("example.com")})
	defer ours.Close()
	fallback := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Fallback", r.URL.Path)
		w.WriteHeader(http.StatusTeapot)
	})
	requests := []struct{ method, target string }{
		{"GET", "http://example.com/"},
		{"GET", "http://example.com/a/b?q=1&r=%2F"},
		{"HEAD", "http://example.com/a"},
		{"GET", "http://example.com:80/a"},
		{"GET", "http://example.com:8080/a"},
		{"GET", "http://[2001:db8::1]/a"},
		{"GET", "http://[2001:db8::1]:80/a"},
		{"GET", "http://192.0.2.1/a"},
		{"GET", "http://denied.example.org/a"},
		{"POST", "http://example.com/a"},
		{"PUT", "http://example.com/a"},
		{"OPTIONS", "http://example.com/a"},
		{"GET", "http://example.com/.well-known/acme-challenge"},
		{"GET", "http://example.com/.well-known/other"},
		{"GET", "http://example.com//.well-known/acme-challenge/x"},
		{"POST", "http://example.com/.well-known/"},
	}
	for _, fb := range []http.Handler{nil, fallback} {
		ourHandler, theirHandler := ours.HTTPHandler(fb), theirs.HTTPHandler(fb)
		for _, r := range requests {
			got, want := record(ourHandler, r.method, r.target), record(theirHandler, r.method, r.target)
			if got.Code != want.Code || got.Body.String() != want.Body.String() {
				t.Errorf("%s %s: %d %q, autocert %d %q", r.method, r.target, got.Code, got.Body, want.Code, want.Body)
			}
			for _, name := range []string{"Location", "X-Fallback", "Content-Type"} {
				if got, want := got.Header().Get(name), want.Header().Get(name); got != want {
					t.Errorf("%s %s: %s %q, autocert %q", r.method, r.target, name, got, want)
				}
			}
		}
	}
}

func record(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// TestOnlyTokensOfAllowedHostsAreAnswered asks for answers that another machine left in the cache.
func TestOnlyTokensOfAllowedHostsAreAnswered(t *testing.T) {
	const path = "/.well-known/acme-challenge/"
	store := new(cache.Memory)
	for key, data := range map[string]string{
		"token-A_1+http-01": "token-A_1.thumbprint",
		"secret":            "not an answer",
		"example.com":       "a private key",
	} {
		if err := store.Put(t.Context(), key, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	m := &certmgr.Manager{Cache: store, Hosts: certmgr.MustAllowlist("example.com", "bücher.example", "*.wild.example")}
	defer m.Close()
	handler := m.HTTPHandler(nil)
	tests := []struct {
		name, host, path string
		status           int
	}{
		{"as it should be", "example.com", path + "token-A_1", 200},
		{"with the port", "example.com:80", path + "token-A_1", 200},
		{"in upper case", "EXAMPLE.Com", path + "token-A_1", 200},
		{"with a trailing dot", "example.com.", path + "token-A_1", 200},
		{"all of that", "Example.COM.:80", path + "token-A_1", 200},
		{"an IDN", "xn--bcher-kva.example", path + "token-A_1", 200},
		{"under a wildcard", "a.wild.example", path + "token-A_1", 200},
		{"too deep for a wildcard", "a.b.wild.example", path + "token-A_1", 403},
		{"another host", "example.org", path + "token-A_1", 403},
		{"an IP address", "192.0.2.1", path + "token-A_1", 403},
		{"an IPv6 address", "[2001:db8::1]:80", path + "token-A_1", 403},
		{"no host", "", path + "token-A_1", 403},
		{"an unknown token", "example.com", path + "token-B", 404},
		{"another entry of the cache", "example.com", path + "secret", 404},
		{"a certificate", "example.com", path + "example.com", 404},
		{"no token", "example.com", path, 404},
		{"more than a token", "example.com", path + "x/token-A_1", 404},
		{"the way up", "example.com", path + "../token-A_1", 404},
		{"a suffix", "example.com", path + "token-A_1+http-01", 404},
		{"too long", "example.com", path + strings.Repeat("a", 1000), 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://example.com/", nil)
			r.Host, r.URL.Path = test.host, test.path
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.status {
				t.Errorf("status %d, want %d: %s", w.Code, test.status, w.Body)
			}
			if w.Code == http.StatusOK && w.Body.String() != "token-A_1.thumbprint" {
				t.Errorf("answer %q", w.Body)
			}
		})
	}
}

// TestHTTP01AloneSuffices has the CA validate by http-01 alone, over a host name as some
// CAs send it.
func TestHTTP01AloneSuffices(t *testing.T) {
	only := func(ca *acmetest.Server) { ca.Challenges = []string{"http-01"} }
	inCA(t, only, func(t *testing.T, ca *acmetest.Server) {
		m := &certmgr.Manager{Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com", "port.example.com")}
		handler := m.HTTPHandler(nil)
		start(t, ca, m)
		ca.Resolve("example.com", acmetest.Target{HTTPHandler: handler})
		ca.Resolve("port.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host = strings.ToUpper(r.Host) + ":80"
			handler.ServeHTTP(w, r)
		})})
		serve(t, m, hello("example.com"))
		serve(t, m, hello("port.example.com"))
		if n := ca.Count(acmetest.NewOrder); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
	})
}

// TestWithoutHTTPHandlerThereIsNoHTTP01: a type without a responder must not be
// tried.
func TestWithoutHTTPHandlerThereIsNoHTTP01(t *testing.T) {
	only := func(ca *acmetest.Server) { ca.Challenges = []string{"http-01"} }
	inCA(t, only, func(t *testing.T, ca *acmetest.Server) {
		m := &certmgr.Manager{Client: clientOf(ca), HostPolicy: certmgr.HostWhitelist("example.com"),
			Audit: func(context.Context, audit.Event) {}}
		start(t, ca, m)
		_, err := m.GetCertificate(hello("example.com"))
		issuance, ok := errors.AsType[*certmgr.IssuanceError](err)
		if !ok || !strings.Contains(issuance.Error(), "HTTPHandler") {
			t.Fatalf("error %v, want an IssuanceError that names HTTPHandler", err)
		}
		if issuance.Host != "example.com" || ca.Count(acmetest.Challenge) != 0 {
			t.Errorf("%+v, %d challenges accepted", issuance, ca.Count(acmetest.Challenge))
		}
	})
}

// TestHTTPHandlerOverARealConnection: what httptest.NewRequest makes of a
// request is not all that a server makes of it.
func TestHTTPHandlerOverARealConnection(t *testing.T) {
	store := new(cache.Memory)
	if err := store.Put(t.Context(), "token+http-01", []byte("answer")); err != nil {
		t.Fatal(err)
	}
	m := &certmgr.Manager{Cache: store, HostPolicy: certmgr.HostWhitelist("example.com")}
	defer m.Close()
	server := httptest.NewServer(m.HTTPHandler(nil))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/.well-known/acme-challenge/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "example.com:80"
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != "answer" {
		t.Errorf("%s %q, %v", res.Status, body, err)
	}
}
