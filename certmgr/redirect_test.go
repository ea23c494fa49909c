package certmgr_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// Whatever a client sends as target and Host, it is redirected to that host on
// port 443, or not at all.
func TestRedirectLeadsToTheHostOrNowhere(t *testing.T) {
	m := &certmgr.Manager{Hosts: certmgr.MustAllowlist("a.example.com"), Audit: new(recorder).hook}
	defer m.Close()
	srv := httptest.NewServer(m.HTTPHandler(nil))
	defer srv.Close()
	for _, tt := range []struct {
		target, host, location string // location is empty for 400
	}{
		{"/", "a.example.com", "https://a.example.com/"},
		{"/x/%2F/y%20z?q=1&r=%2F#", "a.example.com", "https://a.example.com/x/%2F/y%20z?q=1&r=%2F#"},
		{"/x?", "a.example.com", "https://a.example.com/x?"},
		{"//evil.test/x", "a.example.com", "https://a.example.com//evil.test/x"},
		{`/\evil.test`, "a.example.com", "https://a.example.com/%5Cevil.test"},
		{"/%0d%0aSet-Cookie:x=1", "a.example.com", "https://a.example.com/%0d%0aSet-Cookie:x=1"},
		{"/@evil.test", "a.example.com", "https://a.example.com/@evil.test"},
		{"http://a.example.com", "b.example.com", "https://a.example.com/"},
		{"http://a.example.com:8080/x?y", "b.example.com", "https://a.example.com:443/x?y"},
		{"http://user:secret@a.example.com/x", "b.example.com", "https://a.example.com/x"},
		{"http:@evil.test/", "a.example.com", ""},
		{"http:.evil.test/", "a.example.com", ""},
		{"x:@evil.test/", "a.example.com", ""},
		{"*", "a.example.com", ""},

		{"/", "A.Example.COM", "https://a.example.com/"},
		{"/", "a.example.com.", "https://a.example.com/"},
		{"/", "a.example.com:80", "https://a.example.com:443/"},
		{"/", "a.example.com:", "https://a.example.com:443/"},
		{"/", "a.example.com:evil", "https://a.example.com:443/"},
		{"/", "elsewhere.example.org", "https://elsewhere.example.org/"}, // as autocert's
		{"/", "localhost", "https://localhost/"},
		{"/", "my_host.example.com", "https://my_host.example.com/"},
		{"/", "192.0.2.1", "https://192.0.2.1/"},
		{"/", "192.0.2.1:80", "https://192.0.2.1:443/"},
		{"/", "[2001:DB8::1]", "https://[2001:db8::1]/"},
		{"/", "[2001:db8::1]:80", "https://[2001:db8::1]:443/"},
		{"/", "", ""},
		{"/", ":80", ""},
		{"/", ".", ""},
		{"/", "a..example.com", ""},
		{"/", ".example.com", ""},
		{"/", "a.example.com,evil.test", ""},
		{"/", "a.example.com;evil.test", ""},
		{"/", "a.example.com:80:80", ""},
		{"/", "[a.example.com]:80", "https://a.example.com:443/"},
		{"/", "[::1%25eth0]", ""},
		{"/", "a.example.com%2eevil.test", ""},
		{"/", "a.example.com%5c.evil.test", ""},
		{"/", strings.Repeat("a.", 130) + "example.com", ""},
	} {
		res := rawRequest(t, srv.Listener.Addr().String(), "GET "+tt.target+" HTTP/1.1\r\nHost: "+tt.host+"\r\n\r\n")
		location := res.Header.Get("Location")
		want := http.StatusFound
		if tt.location == "" {
			want = http.StatusBadRequest
		}
		if res.StatusCode != want || location != tt.location {
			t.Errorf("GET %s of %q: %d %q, want %d %q", tt.target, tt.host, res.StatusCode, location, want, tt.location)
		}
		if len(res.Cookies()) != 0 {
			t.Errorf("GET %s of %q sets %v", tt.target, tt.host, res.Cookies())
		}
	}
}

// rawRequest sends bytes and reads one reply.
func rawRequest(t *testing.T, addr, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

func FuzzRedirect(f *testing.F) {
	for _, seed := range []string{"a.example.com /x", "a.example.com http:@evil.test/", "[::1]:80 //x", "* *", "a@b /"} {
		host, target, _ := strings.Cut(seed, " ")
		f.Add(host, target)
	}
	m := &certmgr.Manager{Hosts: certmgr.MustAllowlist("a.example.com"), Audit: new(recorder).hook}
	f.Cleanup(func() { m.Close() })
	handler := m.HTTPHandler(nil)
	f.Fuzz(func(t *testing.T, host, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, &http.Request{Method: http.MethodGet, Host: host, URL: u, Proto: "HTTP/1.1"})
		location := w.Header().Get("Location")
		if w.Code != http.StatusFound {
			return
		}
		to, err := url.Parse(location)
		if err != nil || to.Scheme != "https" || to.User != nil || to.Opaque != "" || !strings.HasPrefix(to.Path, "/") {
			t.Fatalf("redirected to %q: %v", location, err)
		}
		if name := to.Hostname(); strings.ContainsAny(name, "/@?#%\\ \r\n") || to.Port() != "" && to.Port() != "443" {
			t.Fatalf("redirected to %q", location)
		}
	})
}
