package certmgr_test

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// The longest that GetCertificate can take, which docs/architecture.md works out: a
// policy and three reads of the cache that answer at the last moment, and an issuance
// that HandshakeWait is too short for.
func TestNoHandshakeTakesLongerThanDocumented(t *testing.T) {
	tests := []struct {
		name    string
		schemes []tls.SignatureScheme
	}{
		{"two certificates and a failure are read", nil},
		{"a certificate and two failures are read", []tls.SignatureScheme{tls.PSSWithSHA256}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				const almost = cacheTimeout + 99*time.Millisecond // of the grace, of 100 ms
				w.m.HostPolicy = func(context.Context, string) error { time.Sleep(almost); return nil }
				w.cache.get(func(context.Context, string) error { time.Sleep(almost); return certmgr.ErrCacheMiss })
				w.ca.Stall(acmetest.Match{Endpoint: acmetest.Directory})
				start := time.Now()
				_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "z.example.com", SignatureSchemes: tt.schemes})
				took := time.Since(start)
				if want := 4*almost + 10*time.Second; took != want {
					t.Errorf("it took %v, want %v: docs/architecture.md says how long GetCertificate can take (%v)", took, want, err)
				}
				w.cache.get(nil)
			})
		})
	}
}
