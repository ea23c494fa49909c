package order

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

var authorization = acmetest.Match{Endpoint: acmetest.Authorization}

// place has a conversation end as soon as it has placed an order.
func (s *site) place() *Unfinished {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	req := s.request()
	req.Keep = func(_ context.Context, u *Unfinished) {
		s.kept = u
		cancel()
	}
	if _, err := Run(ctx, s.client, req); err == nil || s.kept == nil || s.kept.Key != nil || s.orders() != 1 {
		s.t.Fatalf("kept %+v, %v", s.kept, err)
	}
	return s.kept
}

// An order that was placed is not placed again because the conversation about
// it was cut short.
func TestPendingOrderIsResumed(t *testing.T) {
	shown := func(status string) func(*acmetest.Server) {
		return func(ca *acmetest.Server) {
			ca.Edit(times(authorization, 1), func(r *acmetest.Reply) {
				r.EditObject(func(z map[string]any) {
					for _, c := range z["challenges"].([]any) {
						if c := c.(map[string]any); c["type"] == "http-01" {
							c["status"] = status
						}
					}
				})
			})
		}
	}
	for name, fault := range map[string]func(*acmetest.Server){
		"at once":                      func(*acmetest.Server) {},
		"challenge is being validated": shown(acme.StatusProcessing),
		"challenge is said to be so": func(ca *acmetest.Server) {
			ca.Edit(times(acmetest.Match{Endpoint: acmetest.Challenge}, 1), func(r *acmetest.Reply) {
				r.SetProblem(acmetest.Problem{Type: "conflict", Status: http.StatusConflict})
			})
		},
		"order cannot be read at once": status(times(orderURL, 1), http.StatusBadGateway),
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				u := s.place()
				fault(s.ca)
				res, err := s.again()
				if err != nil || s.orders() != 1 || res.OrderURL != u.URL || len(s.ca.Issued()) != 1 {
					t.Errorf("%d orders, %d certificates; %v", s.orders(), len(s.ca.Issued()), err)
				}
				if want := "http-01"; name == "challenge is being validated" && res.Worked != want {
					t.Errorf("validated by %s, want %s", res.Worked, want)
				}
			})
		})
	}
	t.Run("ready", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			req := s.request()
			ctx, cancel := context.WithCancel(t.Context())
			req.Key = func(context.Context, string) (crypto.Signer, error) {
				cancel()
				return newKey(t), nil
			}
			if _, err := Run(ctx, s.client, req); err == nil || s.kept == nil {
				t.Fatalf("kept %+v, %v", s.kept, err)
			}
			s.kept.Key = nil // as if it had not been written
			validations := s.ca.Count(acmetest.Challenge)
			if _, err := s.again(); err != nil || s.orders() != 1 || s.ca.Count(acmetest.Challenge) != validations {
				t.Errorf("%d orders, %v", s.orders(), err)
			}
		})
	})
}

// While nothing is lost by it, an order that may be of no use is replaced within the
// same conversation.
func TestPendingOrderOfNoUseIsReplacedAtOnce(t *testing.T) {
	edited := func(key string, value any) func(s *site) {
		return func(s *site) {
			s.ca.Edit(times(orderURL, 1), func(r *acmetest.Reply) {
				r.EditObject(func(order map[string]any) { order[key] = value })
			})
		}
	}
	dead := func(r *acmetest.Reply) {
		r.EditObject(func(z map[string]any) { z["status"] = acme.StatusDeactivated })
	}
	manyTimes := func(r *acmetest.Reply) {
		r.EditObject(func(order map[string]any) {
			order["authorizations"] = slices.Repeat(order["authorizations"].([]any), maxAuthorizations([]string{"www.example.com"})+1)
		})
	}
	for name, fault := range map[string]func(s *site){
		"many authorizations":   func(s *site) { s.ca.Edit(times(orderURL, 1), manyTimes) },
		"invalid":               edited("status", acme.StatusInvalid),
		"finalized by others":   edited("status", acme.StatusValid),
		"about to be":           edited("status", acme.StatusProcessing),
		"for another name":      edited("identifiers", []any{map[string]any{"type": "dns", "value": "b.example.com"}}),
		"unknown":               func(s *site) { s.kept.URL += "0" },
		"forbidden":             func(s *site) { s.ca.Status(times(orderURL, 1), 403, nil, acmetest.Problem{Type: "unauthorized"}) },
		"authorization ended":   func(s *site) { s.ca.Edit(times(authorization, 1), dead) },
		"authorization unknown": func(s *site) { s.ca.Status(times(authorization, 1), 403, nil, acmetest.Problem{Type: "malformed"}) },
		"challenge is refused":  func(s *site) { status(times(acmetest.Match{Endpoint: acmetest.Challenge}, 1), 400)(s.ca) },
		"another account's":     func(s *site) { s.kept.Account = "https://ca.example/other" },
		"another CA's":          func(s *site) { s.kept.Directory = "https://ca.example/directory" },
		"expired":               func(s *site) { s.kept.Expires = time.Now() },
		"tried often":           func(s *site) { s.kept.Stalls = maxStalls },
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				u := s.place()
				time.Sleep(time.Minute)
				fault(s)
				res, err := s.again()
				if err != nil || s.orders() != 2 || res.OrderURL == u.URL {
					t.Errorf("%d orders, %v", s.orders(), err)
				}
			})
		})
	}
}

// The CA has lost the validation of an order: it is not waited for for ever.
func TestStalledOrderIsReplaced(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		fault := s.ca.Respond(acmetest.Match{Endpoint: acmetest.Challenge}, 200,
			http.Header{"Content-Type": {"application/json"}}, `{"status":"processing"}`)
		_, err := s.run(s.request())
		for range maxStalls - 1 {
			if err == nil || s.orders() != 1 || s.kept == nil {
				t.Fatalf("%d orders, kept %+v, %v", s.orders(), s.kept, err)
			}
			_, err = s.again()
		}
		if s.orders() != 1 {
			t.Errorf("%d orders after %d attempts", s.orders(), maxStalls)
		}
		fault.Lift()
		if _, err = s.again(); err != nil || s.orders() != 2 {
			t.Errorf("%d orders, %v", s.orders(), err)
		}
	})
}

// Two processes that work on the same order use the same key, so that it does
// not matter which of them finalizes it.
func TestKeyOfAnotherProcessIsUsed(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		u := s.place()
		first := *u
		first.Key = newKey(t)
		req := s.request()
		req.Unfinished = u
		req.Key = func(ctx context.Context, orderURL string) (crypto.Signer, error) {
			if orderURL != u.URL {
				t.Errorf("asked for the key of %s", orderURL)
			}
			other := s.request()
			other.Unfinished = &first // the order is ready by now
			if _, err := Run(ctx, s.client, other); err != nil {
				t.Fatal(err)
			}
			return first.Key, nil
		}
		res, err := s.run(req)
		if err != nil || res.Key != first.Key || s.orders() != 1 || len(s.ca.Issued()) != 1 {
			t.Errorf("%d orders, %d certificates: %v", s.orders(), len(s.ca.Issued()), err)
		}
	})
}

// A long Retry-After ends the conversation and says when the order is to be
// resumed. It is not taken at its word without a limit: ZeroSSL has said a day
// while it was processing.
func TestLongRetryAfterEndsTheConversation(t *testing.T) {
	notYet := func(retryAfter string) func(ca *acmetest.Server) {
		return func(ca *acmetest.Server) {
			ca.Respond(times(certificate, 3), 202, http.Header{"Retry-After": {retryAfter}}, "")
		}
	}
	processing := func(retryAfter string) func(ca *acmetest.Server) {
		return func(ca *acmetest.Server) {
			ca.StuckProcessing(host)
			ca.RetryAfter(acmetest.Order, retryAfter)
		}
	}
	for name, c := range map[string]struct {
		fault func(ca *acmetest.Server)
		wait  time.Duration
	}{
		"processing, a minute":  {processing("60"), time.Minute},
		"processing, an hour":   {processing("3600"), time.Hour},
		"processing, a day":     {processing("86400"), 0},
		"processing, absurd":    {processing("99999999999999999999"), 0},
		"certificate, a minute": {notYet("60"), time.Minute},
		"certificate, a day":    {notYet("86400"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				c.fault(s.ca)
				begun := time.Now()
				_, err := s.run(s.request())
				wait, ok := errors.AsType[*WaitError](err)
				if !ok || wait.Wait() != c.wait || s.kept == nil || s.kept.Key == nil {
					t.Fatalf("kept %+v, wait %v: %v", s.kept, wait, err)
				}
				if took, n := time.Since(begun), s.ca.Count(acmetest.Order); took > 5*time.Second || n > 2 {
					t.Errorf("it asked %d times in %v", n, took)
				}
			})
		})
	}
	t.Run("10 s", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			s.ca.RetryAfter(acmetest.Order, "10")
			begun := time.Now()
			s.must(s.request())
			if took := time.Since(begun); took < 10*time.Second || took > 25*time.Second {
				t.Errorf("it took %v", took)
			}
		}, func(ca *acmetest.Server) { ca.Processing = 5 * time.Second })
	})
}

// While the CA validates, the response to its challenge must be there. So the
// conversation goes on whatever the CA says, and the next one is put off.
func TestLongRetryAfterDoesNotEndAValidation(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.RetryAfter(acmetest.Authorization, "60")
		begun := time.Now()
		s.ca.Edit(authorization, func(r *acmetest.Reply) {
			if time.Since(begun) < 40*time.Second {
				r.EditObject(func(z map[string]any) { z["status"] = acme.StatusPending })
				r.Header.Set("Retry-After", "60")
			}
		})
		s.must(s.request())
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v", took)
		}
	})
	at(t, func(t *testing.T, s *site) {
		s.ca.Edit(authorization, func(r *acmetest.Reply) {
			r.EditObject(func(z map[string]any) { z["status"] = acme.StatusPending })
			r.Header.Set("Retry-After", "600")
		})
		_, err := s.run(s.request())
		if wait, ok := errors.AsType[*WaitError](err); !ok || wait.Wait() != 10*time.Minute || s.kept == nil || s.kept.Stalls != 0 {
			t.Errorf("kept %+v, %v", s.kept, err)
		}
	})
}
