package acmetest_test

import (
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestMistakesPanic: an obvious mistake of the test panics at once and says
// why. TestEveryMethodChecksNamesAndEndpoints has the mistakes in names,
// endpoints and matches.
func TestMistakesPanic(t *testing.T) {
	started := func(mistake func(s *acmetest.Server)) func() {
		return func() {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			mistake(s)
		}
	}
	unstarted := func(set func(s *acmetest.Server)) func() {
		return func() {
			s := acmetest.NewUnstartedServer()
			defer s.Close()
			set(s)
			s.StartMemory()
		}
	}
	const types = `["tls-alpn-01" "http-01" "dns-01"]`
	for _, test := range []struct {
		name    string
		mistake func()
		want    string
	}{
		{"a server that was not made", func() { new(acmetest.Server).StartMemory() }, "NewServer"},
		{"a second start", started((*acmetest.Server).StartMemory), "started before"},
		{"a start after the end", func() {
			s := acmetest.NewUnstartedServer()
			s.Close()
			s.StartMemory()
		}, "closed before"},
		{"an unknown challenge type is offered", unstarted(func(s *acmetest.Server) { s.Challenges = []string{"http-1"} }), types},
		{"a limit on an unknown endpoint", unstarted(func(s *acmetest.Server) {
			s.RateLimits = &acmetest.RateLimits{Requests: map[acmetest.Endpoint]acmetest.Limit{"new-order": {}}}
		}), `"newOrder"`},
		{"an unknown default profile", unstarted(func(s *acmetest.Server) { s.DefaultProfile = "classic" }), "Profiles"},
		{"an unknown challenge type fails", started(func(s *acmetest.Server) {
			s.FailValidation("*", "HTTP-01", acmetest.Problem{})
		}), types},
		{"a status that no problem has", started(func(s *acmetest.Server) {
			s.Status(acmetest.Match{}, 100, nil, acmetest.Problem{})
		}), "status 100"},
		{"no delay", started(func(s *acmetest.Server) { s.Delay(acmetest.Match{}, 0) }), "delay"},
		{"nonces in per cent", started(func(s *acmetest.Server) { s.BadNonceRate(20) }), "from 0 to 1"},
		{"a negative number of times", func() { acmetest.Times(-1) }, "Times(-1)"},
		{"no edit", started(func(s *acmetest.Server) { s.Edit(acmetest.Match{}, nil) }), "without a function"},
		{"no edit of a certificate", started(func(s *acmetest.Server) { s.EditCertificate("*", nil) }), "without a function"},
		{"no edit of a chain", started(func(s *acmetest.Server) { s.EditChain("*", nil) }), "without a function"},
		{"the URL of a server as an address", started(func(s *acmetest.Server) {
			s.Resolve("*", acmetest.Target{HTTPAddr: "http://127.0.0.1:8080"})
		}), `HTTPAddr is "http://127.0.0.1:8080"`},
		{"an address without a port", started(func(s *acmetest.Server) {
			s.Resolve("*", acmetest.Target{TLSAddr: "127.0.0.1"})
		}), "host:port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := panicOf(test.mistake); !strings.Contains(got, test.want) {
				t.Errorf("panic %q, want one with %q", got, test.want)
			}
		})
	}
}
