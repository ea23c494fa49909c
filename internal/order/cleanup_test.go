package order

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/challenge"
)

// When a certificate is asked for, or another order placed, no answer is in the
// Cache any more. While that is slow, it waits a moment only, and they are deleted
// in the end.
func TestAnswersAreDeletedBeforeTheirOrderIsDone(t *testing.T) {
	for name, typ := range map[string]string{"first type": challenge.TLSALPN01, "second type": challenge.HTTP01} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, slow %v", name, slow), func(t *testing.T) {
				at(t, func(t *testing.T, s *site) {
					if s.slow = slow; typ != challenge.TLSALPN01 {
						s.ca.FailValidation(host, challenge.TLSALPN01, acmetest.Problem{Type: "connection"})
					}
					req, began, orders := s.request(), time.Now(), 0
					req.Keep = func(_ context.Context, u *Unfinished) {
						if s.kept = u; u != nil && len(s.stored) != 0 && !slow {
							t.Errorf("in the Cache: %v", s.stored)
						}
					}
					req.Order = func(bool) (func(bool, error), error) {
						orders++
						return func(bool, error) {}, nil
					}
					if res := s.must(req); res.Worked != typ {
						t.Errorf("%q worked", res.Worked)
					}
					if most := time.Duration(orders) * (forgetTimeout + time.Second); time.Since(began) > most {
						t.Errorf("%d orders took %v", orders, time.Since(began))
					}
					s.slow = false
					if s.cleanup.Forget(t.Context()); len(s.stored) != 0 {
						t.Errorf("left in the Cache: %v", s.stored)
					}
				})
			})
		}
	}
}

// A process that is killed leaves its answers in a slow Cache. The one that goes
// on with the order deletes them, whichever state that is in.
func TestAnswersOfAKilledProcessAreDeleted(t *testing.T) {
	for name, until := range map[string]func(u *Unfinished) bool{
		"authorized": func(u *Unfinished) bool { return u.Key != nil },
		"finalized":  func(u *Unfinished) bool { return u.Accepted },
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				s.slow = true
				fault := s.ca.Drop(acmetest.Match{Endpoint: acmetest.Certificate})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req := s.request()
				req.Keep = func(_ context.Context, u *Unfinished) {
					if s.kept = u; until(u) {
						cancel()
					}
				}
				if _, err := Run(ctx, s.client, req); err == nil || len(s.stored) != 1 {
					t.Fatalf("%v is in the Cache: %v", s.stored, err)
				}
				fault.Lift()
				s.slow = false
				s.cleanup = Cleanup{} // the process is killed before that
				again := s.request()
				again.Unfinished = s.kept
				again.Unfinished.Inherited = true
				s.must(again)
				if s.cleanup.Forget(t.Context()); len(s.stored) != 0 {
					t.Errorf("left in the Cache: %v", s.stored)
				}
			})
		})
	}
}

// After a failure, one type is tried that may not be offered: then another one
// that can be answered costs no attempt.
func TestTypeThatTheCAOffersIsTried(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.Edit(authorization, func(r *acmetest.Reply) {
			r.EditObject(func(z map[string]any) {
				z["challenges"] = slices.DeleteFunc(z["challenges"].([]any), func(c any) bool {
					return c.(map[string]any)["type"] != challenge.TLSALPN01
				})
			})
		})
		req := s.request()
		req.Before = func(context.Context) ([]string, error) { return []string{challenge.HTTP01}, nil }
		req.Usable = []string{challenge.TLSALPN01, challenge.HTTP01}
		if res := s.must(req); res.Worked != challenge.TLSALPN01 || s.orders() != 1 {
			t.Errorf("%q worked after %d orders", res.Worked, s.orders())
		}
	})
}

// A type that is only tried for want of another one is tried once.
func TestTypeThatTheCAOffersIsTriedOnce(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.FailValidation(host, challenge.TLSALPN01, acmetest.Problem{Type: "connection"})
		req := s.request()
		req.Before = func(context.Context) ([]string, error) { return []string{"dns-account-01"}, nil }
		req.Usable = []string{challenge.TLSALPN01}
		if _, err := s.run(req); err == nil || s.orders() != 1 {
			t.Errorf("%d orders, %v", s.orders(), err)
		}
	})
}
