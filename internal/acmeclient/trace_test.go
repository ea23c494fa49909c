package acmeclient

import (
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A request that was sent and not answered stays so, whatever a retry brings.
func TestTraceTellsWhatTheCAMayHaveDone(t *testing.T) {
	order := acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}
	tests := []struct {
		name   string
		faults func(s *site)
		want   bool
	}{
		{"nothing", func(*site) {}, false},
		{"refused", func(s *site) { s.Status(order, 403, nil, acmetest.Problem{Type: "unauthorized"}) }, false},
		{"limited", func(s *site) { s.Status(order, 429, nil, acmetest.Problem{Type: "rateLimited"}) }, false},
		{"504, then done", func(s *site) { s.Status(order, 504, nil, acmetest.Problem{}) }, true},
		{"504, then refused", func(s *site) {
			s.Status(order, 504, nil, acmetest.Problem{})
			s.Status(order, 403, nil, acmetest.Problem{Type: "unauthorized"})
		}, true},
		{"no answer", func(s *site) { s.Drop(order) }, true},
		{"a redirect", func(s *site) { s.Respond(order, 307, map[string][]string{"Location": {s.URL}}, "") }, true},
		{"a nonce that was not to be had", func(s *site) { s.Drop(acmetest.Match{Endpoint: acmetest.NewNonce}) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				tt.faults(s)
				var trace Trace
				s.client(s.ca(s.Client())).AuthorizeOrder(WithTrace(t.Context(), &trace), acme.DomainIDs("a.example.com"))
				if got := trace.Unanswered(); got != tt.want {
					t.Errorf("Unanswered() = %v, want %v\n%v", got, tt.want, s)
				}
			})
		})
	}
}
