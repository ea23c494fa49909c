package acmetest_test

import (
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// allFaults begins each fault but EndlessBody, of which a client must read only
// the beginning, so that it acts on the first issuance for host. The key is what its String method returns.
func allFaults(host string) map[string]func(s *acmetest.Server) *acmetest.Fault {
	order := acmetest.Match{Endpoint: acmetest.NewOrder, Host: host, Count: 1}
	name := `"` + host + `"`
	match := "(newOrder, " + name + ", count 1)"
	return map[string]func(s *acmetest.Server) *acmetest.Fault{
		"Delay" + match:    func(s *acmetest.Server) *acmetest.Fault { return s.Delay(order, time.Second) },
		"Drop" + match:     func(s *acmetest.Server) *acmetest.Fault { return s.Drop(order) },
		"Truncate" + match: func(s *acmetest.Server) *acmetest.Fault { return s.Truncate(order) },
		"Status" + match:   func(s *acmetest.Server) *acmetest.Fault { return s.Status(order, 503, nil, acmetest.Problem{}) },
		"Respond" + match:  func(s *acmetest.Server) *acmetest.Fault { return s.Respond(order, 503, nil, "") },
		"Garbage" + match:  func(s *acmetest.Server) *acmetest.Fault { return s.Garbage(order) },
		"Edit" + match: func(s *acmetest.Server) *acmetest.Fault {
			return s.Edit(order, func(r *acmetest.Reply) { r.Status = 503 })
		},
		"Stall" + match: func(s *acmetest.Server) *acmetest.Fault {
			f := s.Stall(order)
			time.AfterFunc(time.Minute, f.Lift)
			return f
		},
		"FailValidation(" + name + ", http-01)": func(s *acmetest.Server) *acmetest.Fault {
			return s.FailValidation(host, "http-01", acmetest.Problem{})
		},
		"InvalidOrder(" + name + ")": func(s *acmetest.Server) *acmetest.Fault { return s.InvalidOrder(host) },
		"FailFinalize(" + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			return s.FailFinalize(host, acmetest.Problem{})
		},
		"StuckProcessing(" + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			f := s.StuckProcessing(host)
			time.AfterFunc(time.Minute, f.Lift)
			return f
		},
		"WrongName(" + name + ", times 1)": func(s *acmetest.Server) *acmetest.Fault {
			return s.WrongName(host, acmetest.Times(1))
		},
		"WrongKey(" + name + ")": func(s *acmetest.Server) *acmetest.Fault { return s.WrongKey(host) },
		"WrongDates(" + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			return s.WrongDates(host, time.Time{}, time.Now())
		},
		"WrongChain(" + name + ")": func(s *acmetest.Server) *acmetest.Fault { return s.WrongChain(host) },
		"EditCertificate(" + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			return s.EditCertificate(host, func(*x509.Certificate) {})
		},
		"EditChain(" + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			return s.EditChain(host, func(chain [][]byte) [][]byte { return chain[:1] })
		},
		"DropReply" + match:     func(s *acmetest.Server) *acmetest.Fault { return s.DropReply(order) },
		"GatewayPage" + match:   func(s *acmetest.Server) *acmetest.Fault { return s.GatewayPage(order, 504) },
		"SuccessStatus" + match: func(s *acmetest.Server) *acmetest.Fault { return s.SuccessStatus(order, 200) },
		"RelativeURLs" + match:  func(s *acmetest.Server) *acmetest.Fault { return s.RelativeURLs(order) },
		"NoLocation" + match:    func(s *acmetest.Server) *acmetest.Fault { return s.NoLocation(order) },
		"BlockAccount" + match: func(s *acmetest.Server) *acmetest.Fault {
			return s.BlockAccount(order, acmetest.BoulderRevoked)
		},
		"ReplicationLag(order, " + name + ")": func(s *acmetest.Server) *acmetest.Fault {
			return s.ReplicationLag(acmetest.Match{Endpoint: acmetest.Order, Host: host}, acmetest.Lag{Reads: 1})
		},
		"PauseName(" + name + ", times 1)": func(s *acmetest.Server) *acmetest.Fault {
			return s.PauseName(host, acmetest.Times(1)) // the client tries again
		},
		"RejectName(" + name + ")":     func(s *acmetest.Server) *acmetest.Fault { return s.RejectName(host) },
		"StaysReady(" + name + ")":     func(s *acmetest.Server) *acmetest.Fault { return s.StaysReady(host, time.Second) },
		"SlowValidation(" + name + ")": func(s *acmetest.Server) *acmetest.Fault { return s.SlowValidation(host, time.Minute) },
		"FailSecondaryValidation(" + name + ", http-01)": func(s *acmetest.Server) *acmetest.Fault {
			return s.FailSecondaryValidation(host, "http-01", acmetest.Problem{})
		},
		"DuplicateChain(" + name + ")":   func(s *acmetest.Server) *acmetest.Fault { return s.DuplicateChain(host) },
		"CrossSignedChain(" + name + ")": func(s *acmetest.Server) *acmetest.Fault { return s.CrossSignedChain(host) },
	}
}

// Every fault says how often it has acted, and the server names those that
// never did.
func TestFaultsSayHowOftenTheyActed(t *testing.T) {
	for what, begin := range allFaults("a.example.com") {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
				client := newACMEClient(t, s)
				fault := begin(s)
				wantUnused(t, s, "a fault that never acted: "+what)
				_, _, _ = obtain(t.Context(), t, client, r, "http-01", "b.example.com")
				if n := fault.Acted(); n != 0 || fault.String() != what {
					t.Errorf("%v acted %d times on another name", fault, n)
				}
				_, _, _ = obtain(t.Context(), t, client, r, "http-01", "a.example.com")
				if n := fault.Acted(); n != 1 {
					t.Errorf("it acted %d times, want 1\n%v", n, s)
				}
				wantUnused(t, s)
				fault.Lift()
				fault.Lift()
				_, _, _ = obtain(t.Context(), t, client, r, "http-01", "a.example.com")
				if n := fault.Acted(); n != 1 {
					t.Errorf("it acted %d times after its end, want 1", n)
				}
			})
		})
	}
}

// A fault that has ended without having acted is named as well: by then the
// test has passed for another reason.
func TestLiftedFaultThatNeverActedIsNamed(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	s.Stall(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "wwww.example.com", After: 2}).Lift()
	for range 100 {
		s.Drop(acmetest.Match{Count: 1})
		fetch(t, s, s.URL, time.Minute)
	}
	s.Edit(acmetest.Match{}, func(r *acmetest.Reply) { r.Header.Set("Date", r.Header.Get("Date")) })
	fetch(t, s, s.URL, time.Minute)
	wantUnused(t, s, `a fault that never acted: Stall(newOrder, "wwww.example.com", after 2)`,
		"a fault that never acted: Edit() (it was given 1 replies and changed none)")
}

func TestNonceFaultsAndRetryAfterSayHowOftenTheyActed(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	c.order("a.example.com")
	old := c.nonce()
	faults := []*acmetest.Fault{s.ForgetNonces(), s.BadNonceRate(1), s.RetryAfter(acmetest.Order, "7")}
	s.BadNonceRate(0.5) // replaces the other
	wantUnused(t, s, "a fault that never acted: ForgetNonces()", "a fault that never acted: BadNonceRate(1)",
		`a fault that never acted: RetryAfter(order, "7")`, "a fault that never acted: BadNonceRate(0.5)")
	faults[1] = s.BadNonceRate(1)
	for _, nonce := range []string{old, c.nonce()} {
		if a, _ := c.try(post{url: c.kid, header: map[string]any{"nonce": nonce}}); a.status != http.StatusBadRequest {
			t.Errorf("a bad nonce was accepted: %d %s", a.status, a.body)
		}
	}
	s.BadNonceRate(0)
	c.get(c.endpoint("/order/1"))
	for _, fault := range faults {
		if n := fault.Acted(); n != 1 {
			t.Errorf("%v acted %d times, want 1", fault, n)
		}
		fault.Lift()
	}
	if a := c.get(c.endpoint("/order/1")); a.header.Get("Retry-After") != "" {
		t.Errorf("Retry-After %q after its end", a.header.Get("Retry-After"))
	}
}

// wantUnused checks which faults String says have not acted.
func wantUnused(t *testing.T, s *acmetest.Server, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(s.String()) {
		if line = strings.TrimSpace(line); strings.Contains(line, "never acted") {
			got = append(got, line)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("String says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
