package acmetest_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

// acmetest must pass the table of package conformance exactly. In
// internal/integration the table runs against Pebble.
func TestConformanceInMemory(t *testing.T) {
	conformance.Run(t, func(t *testing.T, binding bool) *conformance.CA {
		return newCA(t, (*acmetest.Server).StartMemory, binding, "2001:db8::1")
	})
}

func TestConformanceOverHTTPS(t *testing.T) {
	conformance.Run(t, func(t *testing.T, binding bool) *conformance.CA {
		return newCA(t, (*acmetest.Server).Start, binding, "192.0.2.1")
	})
}

// newCA starts a server configured for the table.
func newCA(t *testing.T, start func(*acmetest.Server), binding bool, address string) *conformance.CA {
	t.Helper()
	s := acmetest.NewUnstartedServer()
	s.Terms = "https://acmetest.invalid/terms"
	s.OrdersPerPage = 3
	s.AlternateChains = 2
	s.Profiles = map[string]acmetest.Profile{
		"default":    {Description: "90 days", Lifetime: 90 * 24 * time.Hour, IPAddresses: true},
		"shortlived": {Description: "6 days", Lifetime: 6 * 24 * time.Hour, IPAddresses: true},
	}
	s.DefaultProfile = "default"
	if binding {
		s.EAB = map[string][]byte{"kid-1": []byte(strings.Repeat("0123456789abcdef", 4))} // long enough for HS512
	}
	start(s)
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Log(s)
		}
	})
	ca := &conformance.CA{
		Directory: s.URL,
		Client:    s.Client(),
		Roots:     s.Roots(),
		Profiles:  make(map[string]time.Duration),
		Bindings:  s.EAB,
		Serve: func(name string, h http.Handler, config *tls.Config) {
			s.Resolve(name, acmetest.Target{HTTPHandler: h, TLSConfig: config})
		},
		AddTXT:  s.AddTXT,
		Address: address,
	}
	for name, p := range s.Profiles {
		ca.Profiles[name] = p.Lifetime
	}
	return ca
}

func TestRefusalsAreLogged(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	for _, test := range []struct {
		request post
		status  int
		problem string
	}{
		{post{url: c.kid, contentType: "application/json"}, 415, "malformed"},
		{post{url: c.kid, header: map[string]any{"nonce": "AAAA"}}, 400, "badNonce"},
		{post{url: c.endpoint("/new-order"), payload: "{}"}, 400, "malformed"},
		{post{url: c.endpoint("/nothing")}, 404, "malformed"},
	} {
		a := c.do(test.request)
		log := s.Requests()
		last := log[len(log)-1]
		if a.status != test.status || last.Status != test.status || last.Problem != test.problem || last.Detail == "" {
			t.Errorf("%s was answered with %d %s, and the log says %+v", test.request.url, a.status, a.body, last)
		}
	}
}
