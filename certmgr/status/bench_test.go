package status_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/nostall/nostall/certmgr/status"
)

func BenchmarkTenThousandHosts(b *testing.B) {
	s := many(10_000)
	for name, target := range map[string]string{
		"page": "/", "last page by expiry": "/?sort=-expiry&page=100", "filter": "/?q=9999",
		"json": "/?format=json", "json of 1000": "/?format=json&limit=1000",
	} {
		b.Run(name, func(b *testing.B) {
			h := status.Handler(s)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
