package cases

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// B51: requests of load balancers and old clients to port 80: without a Host,
// with an address, a port or capitals. These clients do not use SNI.
func TestPort80AnswersInTermsOfHTTP(t *testing.T) {
	const challenge = "/.well-known/acme-challenge/"
	for _, tt := range []struct {
		name, method, target, host string
		status                     int
	}{
		{"token", "GET", challenge + "tok-1", host, http.StatusOK},
		{"capitals and port", "GET", challenge + "tok-1", "WWW.EXAMPLE.COM:80", http.StatusOK},
		{"dot", "GET", challenge + "tok-1", host + ".", http.StatusOK},
		{"no Host", "GET", challenge + "tok-1", "", http.StatusForbidden},
		{"address", "GET", challenge + "tok-1", "192.0.2.1", http.StatusForbidden},
		{"address and port", "GET", challenge + "tok-1", "[2001:db8::1]:80", http.StatusForbidden},
		{"no token", "GET", challenge, host, http.StatusNotFound},
		{"directories", "GET", challenge + "../../etc/passwd", host, http.StatusNotFound},
		{"slash at the end", "GET", challenge + "tok-1/", host, http.StatusNotFound},
		{"page, no Host", "GET", "/", "", http.StatusBadRequest}, // there is nowhere to redirect to
		{"page, address", "GET", "/", "192.0.2.1", http.StatusFound},
		{"page, full URL", "GET", "http://" + host + "/x?y=1", host, http.StatusFound},
		{"POST", "POST", "/", host, http.StatusBadRequest},
	} {
		table.Run(t, "B51/"+tt.name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.cache.Put(t.Context(), "tok-1+http-01", []byte("answer"))
				r := httptest.NewRequest(tt.method, tt.target, nil)
				r.Host = tt.host
				rec := httptest.NewRecorder()
				w.m.HTTPHandler(nil).ServeHTTP(rec, r)
				if rec.Code != tt.status {
					t.Errorf("status %d, want %d", rec.Code, tt.status)
				}
				if got := rec.Body.String(); rec.Code == http.StatusOK && got != "answer" || strings.Contains(got, "SNI") {
					t.Errorf("answered %q", got)
				}
			})
		})
	}
}
