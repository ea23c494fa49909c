package order

import (
	"net/http"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// The conversation after one whose certificate did not arrive.
func TestUnfinishedOrder(t *testing.T) {
	order := acmetest.Match{Endpoint: acmetest.Order}
	cases := map[string]struct {
		fault      func(ca *acmetest.Server) // in the second conversation
		orders     int
		fails      bool
		unfinished bool // after the second conversation
	}{
		"is finished": {
			fault:  func(*acmetest.Server) {},
			orders: 1,
		},
		"cannot be downloaded yet": {
			fault: func(ca *acmetest.Server) {
				ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			},
			orders:     1,
			fails:      true,
			unfinished: true,
		},
		"is behind a rate limit": {
			fault:      func(ca *acmetest.Server) { ca.Status(order, http.StatusTooManyRequests, nil, acmetest.Problem{}) },
			orders:     1,
			fails:      true,
			unfinished: true,
		},
		"is not known any more": {
			fault: func(ca *acmetest.Server) {
				few := order
				few.Count = 6 // as often as it is asked for: it might be known soon
				ca.Status(few, http.StatusNotFound, nil, acmetest.Problem{})
			},
			orders: 2,
		},
		"is not known any more, and there is no other": {
			fault: func(ca *acmetest.Server) {
				ca.Status(order, http.StatusNotFound, nil, acmetest.Problem{})
				ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusForbidden, nil, acmetest.Problem{})
			},
			orders: 1,
			fails:  true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				lift := s.ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
				first, err := s.run(s.request())
				if err == nil || first.Unfinished == nil {
					t.Fatalf("%+v, %v", first, err)
				}
				lift()

				c.fault(s.ca)
				req := s.request()
				req.Unfinished = first.Unfinished
				s.stages = nil
				res, err := s.run(req)
				if (err != nil) != c.fails || (res.Unfinished != nil) != c.unfinished || s.orders() != c.orders {
					t.Errorf("%d orders, unfinished %+v, %v", s.orders(), res.Unfinished, err)
				}
				if !c.fails && (res.Key == first.Unfinished.Key) != (c.orders == 1) {
					t.Error("the certificate is for the wrong key")
				}
				if s.stages[0] != audit.StageFinalize || res.OrderURL == "" || (res.OrderURL == first.OrderURL) != (c.orders == 1) {
					t.Errorf("stages %q, order %q", s.stages, res.OrderURL)
				}
			})
		})
	}
}
