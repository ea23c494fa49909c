package status_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/status"
)

// A stranger's name that resolves to a loopback address is refused there, and
// only there.
func TestOnlyLocalNamesAreServedOnALoopbackAddress(t *testing.T) {
	h := status.Handler(everyState(), status.ServedAs("certs.Internal.example"))
	for _, test := range []struct {
		local, host string
		served      bool
	}{
		{"127.0.0.1:6060", "localhost:6060", true},
		{"127.0.0.1:6060", "LocalHost.", true},
		{"127.0.0.1:6060", "127.0.0.1", true},
		{"127.0.0.1:6060", "127.8.9.10:6060", true},
		{"[::1]:6060", "[::1]:6060", true},
		{"[::1]:6060", "[::1]", true},
		{"[::ffff:127.0.0.1]:6060", "localhost", true},
		{"127.0.0.1:6060", "certs.internal.example:6060", true},
		{"127.0.0.1:6060", "attacker.example", false},
		{"127.0.0.1:6060", "attacker.example:6060", false},
		{"127.0.0.1:6060", "localhost.attacker.example", false},
		{"127.0.0.1:6060", "127.0.0.1.attacker.example", false},
		{"127.0.0.1:6060", "192.0.2.7", false},
		{"127.0.0.1:6060", "", false},
		{"[::1]:6060", "attacker.example", false},
		{"[::ffff:127.0.0.1]:6060", "attacker.example", false},
		{"192.0.2.1:6060", "certs.example.com", true}, // has its own protection
	} {
		local, err := net.ResolveTCPAddr("tcp", test.local)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = test.host
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		want := http.StatusMisdirectedRequest
		if test.served {
			want = http.StatusOK
		}
		if w.Code != want {
			t.Errorf("%q on %s: %d, want %d", test.host, test.local, w.Code, want)
		}
		if !test.served && (!strings.Contains(w.Body.String(), "status.ServedAs") || strings.Contains(w.Body.String(), "backoff.example")) {
			t.Errorf("%q on %s: %s", test.host, test.local, w.Body)
		}
	}
}

// The same with a real server, whose context has the address.
func TestRebindingIsRefusedByARealServer(t *testing.T) {
	site := httptest.NewServer(status.Handler(everyState()))
	defer site.Close()
	for host, want := range map[string]int{"": http.StatusOK, "attacker.example": http.StatusMisdirectedRequest} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := site.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %q: %s, want %d", host, resp.Status, want)
		}
	}
}

func TestGzipForThoseWhoAcceptIt(t *testing.T) {
	plain := get(t, everyState(), "/").Body.Bytes()
	for accept, packed := range map[string]bool{
		"gzip": true, "deflate, gzip;q=1.0, *;q=0.5": true, "GZIP": true, "br, x-gzip": true, "gzip;q=0.1": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "*": false, "gzip;q=x": false, "br": false,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := httptest.NewRequest(method, "/", nil)
			if accept != "" {
				r.Header.Set("Accept-Encoding", accept)
			}
			w := httptest.NewRecorder()
			status.Handler(everyState()).ServeHTTP(w, r)
			if got := w.Header().Get("Content-Encoding") == "gzip"; got != packed {
				t.Errorf("%s %q: compressed %v, want %v", method, accept, got, packed)
			}
			if method == http.MethodHead {
				continue
			}
			body := w.Body.Bytes()
			if packed {
				z, err := gzip.NewReader(w.Body)
				if err == nil {
					body, err = io.ReadAll(z)
				}
				if err != nil {
					t.Fatalf("%q: %v", accept, err)
				}
			}
			if !bytes.Equal(body, plain) {
				t.Errorf("%q: %d bytes, want the %d of the page", accept, len(body), len(plain))
			}
		}
	}
}
