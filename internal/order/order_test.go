package order

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/challenge"
)

func TestOrderEndsInACertificate(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		res := s.must(s.request())
		if orders := s.ca.Orders(); len(orders) != 1 || orders[0].URL != res.OrderURL || res.Worked != challenge.TLSALPN01 {
			t.Errorf("order %s, challenge %q", res.OrderURL, res.Worked)
		}
		want := []audit.Stage{audit.StageOrder, audit.StageAuthorization, audit.StageChallenge, audit.StageFinalize}
		if !slices.Equal(s.stages, want) || len(s.events) != 0 {
			t.Errorf("stages %q, events %v", s.stages, s.events)
		}
		if len(s.stored) != 0 {
			t.Errorf("left in the cache: %v", s.stored)
		}
	})
}

func TestOrderThatIsAuthorizedNeedsNoChallenge(t *testing.T) {
	reuse := func(ca *acmetest.Server) { ca.ReuseAuthorizations = true }
	at(t, func(t *testing.T, s *site) {
		s.must(s.request())
		s.stages = nil
		if res := s.must(s.request()); res.Worked != "" || !slices.Equal(s.stages, []audit.Stage{audit.StageOrder, audit.StageFinalize}) {
			t.Errorf("challenge %q, stages %q", res.Worked, s.stages)
		}
	}, reuse)
}

// The results of failed conversations.
func TestOrderFails(t *testing.T) {
	failed := acmetest.Problem{Type: "connection", Detail: "nobody there"}
	only := func(typ string) func(*Request) {
		return func(r *Request) { r.Before = func(context.Context) ([]string, error) { return []string{typ}, nil } }
	}
	cases := map[string]struct {
		fault      func(ca *acmetest.Server)
		edit       func(*Request)
		err        string
		stage      audit.Stage // the last one
		orders     int
		refuted    bool
		unfinished bool
	}{
		"nothing is ordered": {
			edit: func(r *Request) {
				r.Before = func(context.Context) ([]string, error) { return nil, errors.New("leads elsewhere") }
			},
			err: "leads elsewhere",
		},
		"no order": {
			fault: func(ca *acmetest.Server) {
				ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 403, nil, acmetest.Problem{Detail: "no"})
			},
			err:   "no",
			stage: audit.StageOrder,
		},
		"many authorizations": {
			fault: func(ca *acmetest.Server) {
				ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
					r.EditObject(func(order map[string]any) {
						order["authorizations"] = slices.Repeat(order["authorizations"].([]any), maxAuthorizations([]string{"www.example.com"})+1)
					})
				})
			},
			err:    "has 5 authorizations for one name",
			stage:  audit.StageOrder,
			orders: 1,
		},
		"no challenge that can be answered": {
			edit:   only("dns-02"),
			err:    `the CA offers none of the challenge types ["dns-02"]; it offers ["tls-alpn-01" "http-01"`,
			stage:  audit.StageAuthorization,
			orders: 1,
		},
		"each challenge fails": {
			fault:   func(ca *acmetest.Server) { ca.FailValidation(host, "", failed) },
			err:     "nobody there",
			stage:   audit.StageChallenge,
			orders:  2,
			refuted: true,
		},
		"the only challenge fails": {
			fault:   func(ca *acmetest.Server) { ca.FailValidation(host, challenge.HTTP01, failed) },
			edit:    only(challenge.HTTP01),
			err:     "nobody there",
			stage:   audit.StageChallenge,
			orders:  1,
			refuted: true,
		},
		"no verdict": {
			fault:      func(ca *acmetest.Server) { ca.Drop(acmetest.Match{Endpoint: acmetest.Authorization, After: 1}) },
			err:        "tls-alpn-01: ",
			stage:      audit.StageChallenge,
			orders:     1,
			unfinished: true,
		},
		"the certificate request is refused": {
			fault: func(ca *acmetest.Server) {
				ca.Status(acmetest.Match{Endpoint: acmetest.Finalize}, 400, nil, acmetest.Problem{Type: "badCSR", Detail: "ugly"})
			},
			err:    "ugly",
			stage:  audit.StageFinalize,
			orders: 1,
		},
		"the order becomes invalid": {
			fault:  func(ca *acmetest.Server) { ca.FailFinalize(host, acmetest.Problem{Type: "badCSR", Detail: "ugly"}) },
			err:    "ugly",
			stage:  audit.StageFinalize,
			orders: 1,
		},
		"no answer to the certificate request": {
			fault:      func(ca *acmetest.Server) { ca.Drop(acmetest.Match{Endpoint: acmetest.Finalize}) },
			stage:      audit.StageFinalize,
			orders:     1,
			unfinished: true,
		},
		"no certificate": {
			fault:      func(ca *acmetest.Server) { ca.StuckProcessing(host) },
			err:        "the CA reached no result",
			stage:      audit.StageFinalize,
			orders:     1,
			unfinished: true,
		},
		"no download": {
			fault: func(ca *acmetest.Server) {
				ca.Status(acmetest.Match{Endpoint: acmetest.Certificate}, 500, nil, acmetest.Problem{})
			},
			stage:      audit.StageFinalize,
			orders:     1,
			unfinished: true,
		},
		"a foreign certificate": {
			fault:      func(ca *acmetest.Server) { ca.WrongName(host) },
			err:        "the CA's certificate does not fit",
			stage:      audit.StageFinalize,
			orders:     1,
			unfinished: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				if c.fault != nil {
					c.fault(s.ca)
				}
				req := s.request()
				if c.edit != nil {
					c.edit(&req)
				}
				res, err := s.run(req)
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				if res.Key != nil || res.Chain != nil || res.Leaf != nil || res.Worked != "" && c.stage != audit.StageFinalize {
					t.Errorf("a certificate came of it, or a challenge: %+v", res)
				}
				if orders := s.ca.Orders(); len(orders) != c.orders || c.orders > 0 && res.OrderURL != orders[c.orders-1].URL {
					t.Errorf("%d orders, want %d; the result's is %q", len(orders), c.orders, res.OrderURL)
				}
				if res.Refuted != c.refuted {
					t.Errorf("refuted: %v", res.Refuted)
				}
				if u := s.kept; (u != nil) != c.unfinished || u != nil && (u.URL != res.OrderURL || (u.Key != nil) != (c.stage == audit.StageFinalize) || u.Account != s.client.KID ||
					u.Directory != s.ca.URL || u.Created.After(time.Now()) || !u.Expires.After(u.Created)) {
					t.Errorf("unfinished: %+v", u)
				}
				var last audit.Stage
				if n := len(s.stages); n > 0 {
					last = s.stages[n-1]
				}
				if last != c.stage {
					t.Errorf("it failed at stage %q", last)
				}
			})
		})
	}
}

// A failed challenge costs its order. The next type is tried with a new one.
func TestNextChallengeTypeIsTried(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.FailValidation(host, challenge.TLSALPN01, acmetest.Problem{Type: "connection"})
		if res := s.must(s.request()); res.Worked != challenge.HTTP01 || s.orders() != 2 {
			t.Errorf("%d orders, %q worked", s.orders(), res.Worked)
		}
		if len(s.events) != 1 || s.events[0].Kind != audit.ChallengeFailed || s.events[0].Err == nil ||
			!strings.HasPrefix(s.events[0].Reason, "tls-alpn-01: no tls-alpn-01 handshake of the CA reached this process") {
			t.Errorf("events: %v", s.events)
		}
	})
}

func TestKeyThatIsToStay(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		key := newKey(t)
		req := s.request()
		req.Key = func(context.Context, string) (crypto.Signer, error) {
			if last := s.stages[len(s.stages)-1]; last != audit.StageFinalize {
				t.Errorf("asked for at stage %q", last)
			}
			return key, nil
		}
		if res := s.must(req); res.Key != key {
			t.Error("the certificate is for another key")
		}
	})
}

// After a CA has failed on replaces, the field is left out.
func TestOrdersOfAConversationReplaceOnce(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		req := s.request()
		req.Replaces = acmeclient.CertID(s.must(s.request()).Leaf)
		s.must(req)
		s.ca.FailValidation(host, challenge.TLSALPN01, acmetest.Problem{Type: "connection"}) // so that there are two orders
		s.ca.ForgetRequests()
		s.must(req) // what is replaced twice is refused
		var replaces []string
		for _, o := range s.ca.Orders() {
			replaces = append(replaces, o.Replaces)
		}
		if n := s.ca.Count(acmetest.NewOrder); n != 3 || !slices.Equal(replaces, []string{"", req.Replaces, "", ""}) {
			t.Errorf("%d requests for an order; the orders replace %q", n, replaces)
		}
	})
}

// User code may panic within a conversation. The clean-up is complete even
// then.
func TestCleanupSurvivesAPanic(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		req := s.request()
		present := req.Present
		req.Present = func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*challenge.Answer, error) {
			answer, _ := present(ctx, client, chal, host)
			req.Cleanup.Later(answer.Forget)
			panic("no")
		}
		func() {
			defer func() { recover() }()
			s.run(req)
		}()
		if len(s.stored) != 1 {
			t.Fatalf("in the cache: %v", s.stored)
		}
		if s.cleanup.Forget(t.Context()); len(s.stored) != 0 {
			t.Errorf("left in the cache: %v", s.stored)
		}
	})
}

// What the CA says about a challenge that was not tried is not the reason.
func TestReasonIsThatOfTheChallengeThatWasTried(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.FailValidation(host, challenge.HTTP01, acmetest.Problem{Type: "connection", Detail: "nobody there"})
		s.ca.Edit(authorization, func(r *acmetest.Reply) {
			r.EditObject(func(z map[string]any) {
				z["challenges"] = append([]any{map[string]any{
					"type":   challenge.TLSALPN01,
					"url":    s.ca.URL + "/challenge/another",
					"token":  "another",
					"status": acme.StatusInvalid,
					"error":  map[string]any{"type": "urn:ietf:params:acme:error:dns", "detail": "another one's"},
				}}, z["challenges"].([]any)...)
			})
		})
		req := s.request()
		req.Before = func(context.Context) ([]string, error) { return []string{challenge.HTTP01}, nil }
		_, err := s.run(req)
		if err == nil || !strings.Contains(err.Error(), "nobody there") || strings.Contains(err.Error(), "another one's") {
			t.Error(err)
		}
	})
}
