package integration

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/conformance"
)

// The table of protocol cases for certmgr/acmetest, run against Pebble: where
// Pebble answers otherwise, the table must say so. Two Pebbles serve all cases,
// as only one may require external account binding.
func TestConformance(t *testing.T) {
	secret := []byte(strings.Repeat("0123456789abcdef", 4)) // long enough for HS512
	plain := newConformanceCA(t, nil)
	bound := newConformanceCA(t, map[string][]byte{"kid-1": secret})
	conformance.Run(t, func(_ *testing.T, binding bool) *conformance.CA {
		if binding {
			return bound
		}
		return plain
	})
}

func newConformanceCA(t *testing.T, bindings map[string][]byte) *conformance.CA {
	t.Helper()
	sites, tlsListener, httpListener := new(conformance.Sites), listen(t), listen(t)
	serveHTTP(t, httpListener, sites)
	serveTLS(t, tlsListener, sites.TLSConfig())

	config := pebbleConfig{
		tlsPort:        port(tlsListener),
		httpPort:       port(httpListener),
		alternateRoots: 2,
		profiles:       map[string]time.Duration{"default": 90 * 24 * time.Hour, "shortlived": 6 * 24 * time.Hour},
	}
	if bindings != nil {
		config.eab = make(map[string]string)
		for kid, secret := range bindings {
			config.eab[kid] = base64.RawURLEncoding.EncodeToString(secret)
		}
	}
	p := startPebble(t, config)
	return &conformance.CA{
		Directory: p.directory,
		Client:    &http.Client{Transport: p.transport, Timeout: timeout},
		Roots:     p.roots,
		Profiles:  config.profiles,
		Bindings:  bindings,
		Pebble:    true,
		Serve:     sites.Serve,
		AddTXT: func(name, value string) {
			if err := p.dns.addTXT(t.Context(), name, value); err != nil {
				t.Error(err)
			}
		},
		Address: "127.0.0.1",
	}
}
