package order

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// Matches of requests.
var (
	orderURL    = acmetest.Match{Endpoint: acmetest.Order}
	certificate = acmetest.Match{Endpoint: acmetest.Certificate}
	finalize    = acmetest.Match{Endpoint: acmetest.Finalize}
)

func times(m acmetest.Match, n int) acmetest.Match {
	m.Count = n
	return m
}

// again is a conversation after the one that kept an order.
func (s *site) again() (Result, error) {
	req := s.request()
	req.Unfinished = s.kept
	s.stages = nil
	return s.run(req)
}

// stop has a conversation end before the certificate arrives, and lifts what caused
// that.
func (s *site) stop() *Unfinished {
	s.t.Helper()
	fault := s.ca.Status(certificate, http.StatusInternalServerError, nil, acmetest.Problem{})
	if _, err := s.run(s.request()); err == nil || s.kept == nil {
		s.t.Fatalf("kept %+v, %v", s.kept, err)
	}
	fault.Lift()
	return s.kept
}

// status answers with a status and a body that means nothing.
func status(m acmetest.Match, status int) func(*acmetest.Server) {
	return func(ca *acmetest.Server) {
		ca.Respond(m, status, http.Header{"Content-Type": {"text/html"}}, "<html>wait</html>")
	}
}

// What a CA or a proxy replies for a while after the certificate was asked for
// costs neither the certificate nor a second order: a conversation puts up with it,
// or the next one does.
func TestWhatWasIssuedIsNotLost(t *testing.T) {
	// shows has the order be shown with another status for a while after finalize.
	shows := func(status string, d time.Duration) func(*acmetest.Server) {
		return func(ca *acmetest.Server) {
			var until atomic.Int64
			stale := func(r *acmetest.Reply) {
				if time.Now().UnixNano() < until.Load() {
					r.EditObject(func(order map[string]any) {
						order["status"] = status
						delete(order, "certificate")
					})
				}
			}
			ca.Edit(orderURL, stale)
			ca.Edit(finalize, func(r *acmetest.Reply) {
				if r.Status < 300 {
					until.CompareAndSwap(0, time.Now().Add(d).UnixNano())
				}
				stale(r)
			})
		}
	}
	drop := func(m acmetest.Match) func(*acmetest.Server) { // after the CA acted
		return func(ca *acmetest.Server) { ca.Edit(m, func(r *acmetest.Reply) { r.Drop = true }) }
	}
	half := func(m acmetest.Match) func(*acmetest.Server) {
		return func(ca *acmetest.Server) { ca.Edit(m, func(r *acmetest.Reply) { r.Body = r.Body[:len(r.Body)/2] }) }
	}
	faults := map[string]func(*acmetest.Server){
		"ready":                   shows(acme.StatusReady, 20*time.Second),
		"pending":                 shows(acme.StatusPending, 20*time.Second),
		"processing":              shows(acme.StatusProcessing, 20*time.Second),
		"valid, no certificate":   shows(acme.StatusValid, 20*time.Second),
		"unknown status":          shows("busy", 20*time.Second),
		"ready for longer":        shows(acme.StatusReady, 30*time.Minute),
		"pending for longer":      shows(acme.StatusPending, 30*time.Minute),
		"finalize dropped":        drop(times(finalize, 10)),
		"finalize not delivered":  func(ca *acmetest.Server) { ca.Drop(times(finalize, 10)) },
		"finalize 404":            status(times(finalize, 7), 404),
		"finalize 403 of a proxy": status(times(finalize, 2), 403),
		"finalize 429":            func(ca *acmetest.Server) { ca.Status(times(finalize, 3), 429, nil, acmetest.Problem{}) },
		"finalize 503":            func(ca *acmetest.Server) { ca.Status(times(finalize, 20), 503, nil, acmetest.Problem{}) },
		"order 429":               func(ca *acmetest.Server) { ca.Status(times(orderURL, 6), 429, nil, acmetest.Problem{}) },
		"finalize 404 of a replica": func(ca *acmetest.Server) {
			ca.Status(times(finalize, 7), 404, nil, acmetest.Problem{Type: "malformed"})
		},
		"order 404": func(ca *acmetest.Server) {
			ca.Status(times(orderURL, 40), 404, nil, acmetest.Problem{Type: "malformed"})
		},
		"order truncated": half(times(orderURL, 20)),
		"chain truncated": half(times(certificate, 20)),
		"chain dropped":   drop(times(certificate, 20)),
		"chain 404": func(ca *acmetest.Server) {
			ca.Status(times(certificate, 40), 404, nil, acmetest.Problem{Type: "malformed"})
		},
	}
	for _, code := range []int{200, 202, 204, 302, 403, 410, 418, 504} {
		faults["order "+http.StatusText(code)] = status(times(orderURL, 20), code)
		faults["certificate "+http.StatusText(code)] = status(times(certificate, 20), code)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				fault(s.ca)
				res, err := s.run(s.request())
				for begun := time.Now(); err != nil && time.Since(begun) < 50*time.Minute; {
					if s.kept == nil {
						t.Fatalf("the order was given up: %v", err)
					}
					time.Sleep(5 * time.Minute)
					res, err = s.again()
				}
				if err != nil || s.kept != nil || s.orders() != 1 || len(s.ca.Issued()) != 1 || res.OrderURL != s.ca.Orders()[0].URL {
					t.Errorf("%d orders, %d certificates issued, kept %+v; %v", s.orders(), len(s.ca.Issued()), s.kept, err)
				}
			})
		})
	}
}

// A lag of seconds is waited for in the same conversation.
func TestLagOfSecondsCostsNoConversation(t *testing.T) {
	for name, m := range map[string]acmetest.Match{"order": times(orderURL, 1), "certificate": times(certificate, 1), "finalize": times(finalize, 1)} {
		for _, code := range []int{202, 204, 403, 404, 410} {
			at(t, func(t *testing.T, s *site) {
				status(m, code)(s.ca)
				begun := time.Now()
				if s.must(s.request()); time.Since(begun) > 15*time.Second || s.orders() != 1 {
					t.Errorf("%s %d: %d orders, %v", name, code, s.orders(), time.Since(begun))
				}
			})
		}
	}
}

// An order that stays ready is finalized again, with pauses and not for ever.
func TestOrderThatStaysReadyIsFinalizedAgain(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		var csrs []string
		var sent []time.Time
		s.ca.Edit(finalize, func(r *acmetest.Reply) {
			csrs, sent = append(csrs, string(r.Payload)), append(sent, time.Now())
		})
		s.ca.Edit(orderURL, func(r *acmetest.Reply) {
			r.EditObject(func(order map[string]any) { order["status"] = acme.StatusReady })
		})
		if _, err := s.run(s.request()); err == nil || s.kept == nil || !s.kept.Accepted {
			t.Errorf("kept %+v, %v", s.kept, err)
		}
		if len(csrs) < 3 || len(csrs) > maxRequests || len(slices.Compact(slices.Clone(csrs))) != 1 {
			t.Errorf("%d certificate requests, %d of them differ", len(csrs), len(slices.Compact(slices.Clone(csrs))))
		}
		for i := 1; i < len(sent); i++ {
			if d := sent[i].Sub(sent[i-1]); d < requestStep {
				t.Errorf("request %d comes after %v", i, d)
			}
		}
	})
}

// A CA that asks to wait is not asked again by the same conversation.
func TestRateLimitEndsTheConversationAndKeepsTheOrder(t *testing.T) {
	for name, m := range map[string]acmetest.Match{"order": orderURL, "certificate": certificate, "finalize": finalize} {
		at(t, func(t *testing.T, s *site) {
			s.ca.Status(m, http.StatusServiceUnavailable, http.Header{"Retry-After": {"3600"}}, acmetest.Problem{})
			begun := time.Now()
			if _, err := s.run(s.request()); err == nil || s.kept == nil || time.Since(begun) > 5*time.Second || s.ca.Count(m.Endpoint) > 2 {
				t.Errorf("%s: %d requests in %v, kept %+v, %v", name, s.ca.Count(m.Endpoint), time.Since(begun), s.kept, err)
			}
		})
	}
}

// The conversation after one whose certificate did not arrive.
func TestUnfinishedOrderIsResumed(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		u := s.stop()
		time.Sleep(20 * time.Hour)
		res, err := s.again()
		if err != nil || res.Key != u.Key || res.OrderURL != u.URL || s.kept != nil || s.stages[0] != audit.StageFinalize {
			t.Errorf("order %s, kept %+v, stages %q; %v", res.OrderURL, s.kept, s.stages, err)
		}
	})
}

// An order of which no certificate can come is given up for a new one.
func TestUnfinishedOrderIsGivenUp(t *testing.T) {
	invalid := func(r *acmetest.Reply) {
		r.EditObject(func(order map[string]any) { order["status"] = acme.StatusInvalid })
	}
	for name, c := range map[string]struct {
		fault func(s *site)
		wait  time.Duration
	}{
		"invalid":               {func(s *site) { s.ca.Edit(times(orderURL, 1), invalid) }, time.Minute},
		"another account's":     {func(s *site) { s.kept.Account = "https://ca.example/other" }, time.Minute},
		"another CA's":          {func(s *site) { s.kept.Directory = "https://ca.example/directory" }, time.Minute},
		"expired":               {func(s *site) { s.kept.Expires = s.kept.Created.Add(time.Hour) }, time.Hour},
		"a day old":             {func(s *site) { s.kept.Expires = time.Time{} }, 24 * time.Hour},
		"a day old, odd expiry": {func(s *site) { s.kept.Expires = time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC) }, 24 * time.Hour},
		"a month old":           {func(s *site) { s.kept.Expires = s.kept.Created.AddDate(10, 0, 0) }, 30 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				u := s.stop()
				time.Sleep(c.wait - time.Since(u.Created))
				c.fault(s)
				res, err := s.again()
				if err != nil || s.orders() != 2 || res.OrderURL == u.URL || res.Key == u.Key || s.kept != nil {
					t.Errorf("%d orders, kept %+v; %v", s.orders(), s.kept, err)
				}
			})
		})
	}
}

// An order of which the CA knows nothing is given up, but not for a lag or an
// outage.
func TestOrderThatIsMissingIsGivenUpAfterAnHour(t *testing.T) {
	for name, m := range map[string]acmetest.Match{"order": orderURL, "certificate": certificate} {
		for _, code := range []int{http.StatusNotFound, http.StatusGone} {
			at(t, func(t *testing.T, s *site) {
				s.stop()
				missing := func() func() { return s.ca.Status(m, code, nil, acmetest.Problem{Type: "malformed"}).Lift }
				lift := missing()
				for _, wait := range []time.Duration{0, 50 * time.Minute} {
					time.Sleep(wait)
					if _, err := s.again(); err == nil || s.kept == nil || s.orders() != 1 {
						t.Fatalf("%s %d after %v: %d orders, kept %+v; %v", name, code, wait, s.orders(), s.kept, err)
					}
				}
				lift()
				liftOther := s.ca.Status(m, http.StatusInternalServerError, nil, acmetest.Problem{})
				time.Sleep(20 * time.Minute) // another reply: the hour begins anew
				s.again()
				liftOther.Lift()
				lift = missing()
				for _, wait := range []time.Duration{0, 50 * time.Minute} {
					time.Sleep(wait)
					if s.again(); s.orders() != 1 {
						t.Fatalf("%s %d: ordered again %v after another reply", name, code, wait)
					}
				}
				lift()
				s.ca.Status(times(m, 6), code, nil, acmetest.Problem{Type: "malformed"})
				time.Sleep(20 * time.Minute)
				if s.again(); s.orders() != 2 {
					t.Errorf("%s %d: %d orders after an hour of it", name, code, s.orders())
				}
			})
		}
	}
}

// A certificate that does not fit is kept as the result of its order for a day: it
// may be downloaded better, and another one would hardly fit.
func TestCertificateThatDoesNotFitIsNotOrderedAgainAtOnce(t *testing.T) {
	for name, fault := range map[string]func(*acmetest.Server) func(){
		"other name": func(ca *acmetest.Server) func() { return ca.WrongName(host).Lift },
		"other key":  func(ca *acmetest.Server) func() { return ca.WrongKey(host).Lift },
		"other CA":   func(ca *acmetest.Server) func() { return ca.WrongChain(host).Lift },
	} {
		t.Run(name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				lift := fault(s.ca)
				_, err := s.run(s.request())
				if err == nil || !strings.Contains(err.Error(), "does not fit") || !strings.Contains(err.Error(), s.ca.Orders()[0].URL) {
					t.Fatalf("error %v", err)
				}
				lift()
				time.Sleep(23 * time.Hour)
				if _, err := s.again(); err == nil || s.orders() != 1 {
					t.Errorf("%d orders in a day, %v", s.orders(), err)
				}
				time.Sleep(time.Hour)
				if _, err := s.again(); err != nil || s.orders() != 2 {
					t.Errorf("%d orders in more than a day, %v", s.orders(), err)
				}
			})
		})
	}
	t.Run("downloaded better", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			foreign := s.ca.Edit(certificate, func(r *acmetest.Reply) { r.Body = foreignChain(t) })
			if _, err := s.run(s.request()); err == nil {
				t.Fatal("no error")
			}
			foreign.Lift()
			if res, err := s.again(); err != nil || s.orders() != 1 || s.kept != nil || res.Key == nil {
				t.Errorf("%d orders, kept %+v, %v", s.orders(), s.kept, err)
			}
		})
	})
}

// If another process with the same account finalized the order, the conversation
// places another one at once.
func TestOrderThatAnotherProcessFinalizedIsReplacedAtOnce(t *testing.T) {
	notReady := func(r *acmetest.Reply) {
		r.SetProblem(acmetest.Problem{Type: "orderNotReady", Status: http.StatusForbidden})
	}
	t.Run("once", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			s.ca.WrongKey(host, acmetest.Times(1))
			s.ca.Edit(times(finalize, 1), notReady)
			begun := time.Now()
			s.must(s.request())
			if took := time.Since(begun); s.orders() != 2 || took > 15*time.Second {
				t.Errorf("%d orders in %v", s.orders(), took)
			}
		})
	})
	t.Run("behind a lost reply", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			s.ca.WrongKey(host, acmetest.Times(1))
			s.ca.Edit(times(finalize, 1), func(*acmetest.Reply) { panic(http.ErrAbortHandler) })
			begun := time.Now()
			s.must(s.request())
			if took := time.Since(begun); s.orders() != 2 || took > 15*time.Second {
				t.Errorf("%d orders in %v", s.orders(), took)
			}
		})
	})
	t.Run("always", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			s.ca.WrongKey(host)
			s.ca.Edit(finalize, notReady)
			_, err := s.run(s.request())
			if err == nil || !strings.Contains(err.Error(), "another process") || s.orders() != 1+maxInstead || s.kept != nil {
				t.Errorf("%d orders, kept %+v, %v", s.orders(), s.kept, err)
			}
		})
	})
	t.Run("seen later", func(t *testing.T) {
		at(t, func(t *testing.T, s *site) {
			s.ca.WrongKey(host, acmetest.Times(1))
			s.ca.Edit(times(finalize, 1), notReady)
			u := s.stop()
			if _, err := s.again(); err != nil || s.orders() != 2 || u.Accepted {
				t.Errorf("%d orders, %+v, %v", s.orders(), u, err)
			}
		})
	})
}

// The order is kept before the certificate is asked for: user code may panic at any
// time afterwards.
func TestOrderIsKeptBeforeItIsFinalized(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		s.ca.Edit(finalize, func(*acmetest.Reply) {
			if s.keeps != 2 || s.kept == nil || s.kept.Key == nil {
				t.Errorf("kept %+v by %d calls", s.kept, s.keeps)
			}
		})
		s.must(s.request())
	})
}

// foreignChain is a chain of another CA, in PEM.
func foreignChain(t *testing.T) []byte {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"other.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
