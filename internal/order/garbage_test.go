package order

import (
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A CA that replies with garbage is asked a few times in a conversation,
// wherever that begins. The numbers are those of requests, and not computed from
// the code's own limits.
func TestGarbageEndsAConversation(t *testing.T) {
	for name, tt := range map[string]struct {
		match acmetest.Match
		most  int
	}{
		"new order":                      {acmetest.Match{Endpoint: acmetest.NewOrder}, 2},
		"authorization":                  {acmetest.Match{Endpoint: acmetest.Authorization}, 3},
		"authorization, after the proof": {acmetest.Match{Endpoint: acmetest.Authorization, After: 1}, 1 + 2*3},
		"challenge":                      {acmetest.Match{Endpoint: acmetest.Challenge}, 3},
		"order":                          {acmetest.Match{Endpoint: acmetest.Order}, 3 * 3},
		"certificate":                    {acmetest.Match{Endpoint: acmetest.Certificate}, 3 * 3},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				s.ca.Garbage(tt.match)
				if _, err := s.run(s.request()); err == nil {
					t.Fatal("a certificate")
				}
				if n := s.ca.Count(tt.match.Endpoint); n > tt.most || n < 2 {
					t.Errorf("%d requests, want %d at most", n, tt.most)
				}
			})
		})
	}
}

// An order for one name with thousands of authorizations is given up without a
// request for any of them.
func TestOrderWithThousandsOfAuthorizations(t *testing.T) {
	for _, n := range []int{5, 400, 4000} {
		at(t, func(t *testing.T, s *site) {
			s.ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
				r.EditObject(func(order map[string]any) {
					first := order["authorizations"].([]any)[0]
					all := make([]any, n)
					for i := range all {
						all[i] = first
					}
					order["authorizations"] = all
				})
			})
			if _, err := s.run(s.request()); err == nil {
				t.Errorf("%d authorizations: a certificate", n)
			}
			if asked := s.ca.Count(acmetest.Authorization); asked != 0 {
				t.Errorf("%d authorizations: %d requests for them", n, asked)
			}
		})
	}
}
