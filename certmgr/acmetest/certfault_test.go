package acmetest_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestWrongCertificates(t *testing.T) {
	tests := []struct {
		name  string
		fault func(s *acmetest.Server, host string) *acmetest.Fault
		as    func(err error) bool
	}{
		{"name", func(s *acmetest.Server, host string) *acmetest.Fault { return s.WrongName(host) }, isAs[x509.HostnameError]},
		{"chain", func(s *acmetest.Server, host string) *acmetest.Fault { return s.WrongChain(host) }, isAs[x509.UnknownAuthorityError]},
		{"expired", func(s *acmetest.Server, host string) *acmetest.Fault {
			return s.WrongDates(host, time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().Add(-time.Hour))
		}, expired},
		{"not yet valid", func(s *acmetest.Server, host string) *acmetest.Fault {
			return s.WrongDates(host, time.Now().Add(time.Hour), time.Time{})
		}, expired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
				client := newACMEClient(t, s)
				get := func(host string) error {
					chain, _, err := obtain(t.Context(), t, client, r, "http-01", host)
					if err != nil {
						t.Fatalf("%v\n%v", err, s)
					}
					_, err = verify(t, chain, s.Roots(), host)
					return err
				}
				fault := tt.fault(s, "A.example.com")
				if err := get("a.example.com"); !tt.as(err) {
					t.Errorf("verification says: %v", err)
				}
				if err := get("b.example.com"); err != nil {
					t.Errorf("another host: %v", err)
				}
				fault.Lift()
				if err := get("a.example.com"); err != nil {
					t.Errorf("after the lift: %v", err)
				}
			})
		})
	}
}

func expired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

func TestWrongDatesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		start, end := time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(1998, 1, 2, 3, 4, 5, 0, time.UTC)
		fault := s.WrongDates("a.example.com", start, end)
		c := newRawClient(t, s)
		if leaf := c.newLeaf("a.example.com"); !leaf.NotBefore.Equal(start) || !leaf.NotAfter.Equal(end) {
			t.Errorf("from %v to %v", leaf.NotBefore, leaf.NotAfter)
		}
		fault.Lift()
		usual := c.newLeaf("a.example.com")
		s.WrongDates("a.example.com", start, time.Time{})
		if leaf := c.newLeaf("a.example.com"); !leaf.NotBefore.Equal(start) || !leaf.NotAfter.Equal(usual.NotAfter) {
			t.Errorf("from %v to %v", leaf.NotBefore, leaf.NotAfter)
		}
	})
}

// The client of x/crypto rejects invalid chains, so this looks at the bytes.
func TestEditChain(t *testing.T) {
	tests := []struct {
		name string
		edit func(chain [][]byte) [][]byte
		want []string // the blocks, by name
	}{
		{"as it is", func(chain [][]byte) [][]byte { return chain }, []string{"leaf", "intermediate"}},
		{"no intermediate", func(chain [][]byte) [][]byte { return chain[:1] }, []string{"leaf"}},
		{"in reverse", func(chain [][]byte) [][]byte { slices.Reverse(chain); return chain }, []string{"intermediate", "leaf"}},
		{"empty", func([][]byte) [][]byte { return nil }, nil},
		{"something else", func(chain [][]byte) [][]byte { return append(chain, []byte("x")) }, []string{"leaf", "intermediate", "?"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.AlternateChains = 1
			s.StartMemory()
			defer s.Close()
			calls := 0
			s.EditChain("*.example.com", func(chain [][]byte) [][]byte { calls++; return tt.edit(chain) })
			c := newRawClient(t, s)
			c.register()
			_, o := c.ready("a.example.com")
			url := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com")).str("certificate")
			for _, url := range []string{url, url + "/1"} {
				a := c.get(url)
				if got := blocks(t, a.body); a.status != http.StatusOK || !slices.Equal(got, tt.want) {
					t.Errorf("%s: status %d, blocks %q, want %q", url, a.status, got, tt.want)
				}
			}
			if calls != 2 {
				t.Errorf("%d calls, want one for each chain", calls)
			}
		})
	}
}

// blocks describes the content of a chain in PEM.
func blocks(t *testing.T, body []byte) (names []string) {
	t.Helper()
	for {
		block, rest := pem.Decode(body)
		if block == nil {
			return names
		}
		name := "?"
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			name = map[bool]string{true: "intermediate", false: "leaf"}[cert.IsCA]
		}
		names, body = append(names, name), rest
	}
}

// FailFinalize ends an order in state processing; the reply to finalize is the
// order.
func TestFailFinalize(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.Processing = wait
			s.StartMemory()
			defer s.Close()
			fault := s.FailFinalize("a.example.com", acmetest.Problem{Type: "caa", Detail: "no",
				Subproblems: []acmetest.Subproblem{{Type: "caa", Detail: "not you", Host: "b.example.com"}}})
			c := newRawClient(t, s)
			c.register()
			u, o := c.ready("a.example.com", "b.example.com")
			request := csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com", "b.example.com")
			a := c.finalize(o, request)
			want := map[bool]string{true: "invalid", false: "processing"}[wait == 0]
			if a.status != http.StatusOK || a.str("status") != want {
				t.Errorf("processing %v: finalize: %d %s", wait, a.status, a.body)
			}
			time.Sleep(wait)
			synctest.Wait()
			a = c.get(u)
			problem, _ := a.object["error"].(map[string]any)
			subproblems, _ := problem["subproblems"].([]any)
			if a.str("status") != "invalid" || problem["type"] != "urn:ietf:params:acme:error:caa" || problem["detail"] != "no" ||
				len(subproblems) != 1 || a.str("certificate") != "" {
				t.Errorf("processing %v: %s", wait, a.body)
			}
			if n := len(s.Issued()); n != 0 {
				t.Errorf("processing %v: %d certificates", wait, n)
			}
			if a := c.finalize(o, request); a.problem() != "orderNotReady" {
				t.Errorf("processing %v: finalized again: %d %s", wait, a.status, a.body)
			}
			fault.Lift()
			_, o = c.ready("a.example.com")
			c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
			if _, err := s.WaitIssued(t.Context(), "a.example.com", 1); err != nil {
				t.Errorf("processing %v: after the lift: %v", wait, err)
			}
		})
	}
}

// Times counts uses of the fault, and nothing else.
func TestFaultsForNamesEndAfterSomeTimes(t *testing.T) {
	tests := []struct {
		name  string
		fault func(s *acmetest.Server) *acmetest.Fault
		hit   func(err error) bool
	}{
		{"FailValidation", func(s *acmetest.Server) *acmetest.Fault {
			return s.FailValidation("a.example.com", "http-01", acmetest.Problem{}, acmetest.Times(2))
		}, isAs[*acme.AuthorizationError]},
		{"InvalidOrder", func(s *acmetest.Server) *acmetest.Fault { return s.InvalidOrder("a.example.com", acmetest.Times(2)) },
			isAs[*acme.AuthorizationError]},
		{"FailFinalize", func(s *acmetest.Server) *acmetest.Fault {
			return s.FailFinalize("a.example.com", acmetest.Problem{}, acmetest.Times(2))
		}, isAs[*acme.OrderError]},
		{"WrongName", func(s *acmetest.Server) *acmetest.Fault { return s.WrongName("a.example.com", acmetest.Times(2)) },
			isAs[x509.HostnameError]},
		{"WrongChain", func(s *acmetest.Server) *acmetest.Fault { return s.WrongChain("a.example.com", acmetest.Times(2)) },
			isAs[x509.UnknownAuthorityError]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
				client := newACMEClient(t, s)
				get := func(typ, host string) error {
					chain, _, err := obtain(t.Context(), t, client, r, typ, host)
					if err != nil {
						return err
					}
					_, err = verify(t, chain, s.Roots(), host)
					return err
				}
				fault := tt.fault(s)
				for i, host := range []string{"b.example.com", "a.example.com", "b.example.com", "a.example.com", "a.example.com"} {
					err := get("http-01", host)
					if want := i == 1 || i == 3; want && !tt.hit(err) || !want && err != nil {
						t.Errorf("attempt %d, %s: %v", i, host, err)
					}
				}
				fault.Lift() // may be called after the end
			})
		})
	}
}

func isAs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// The two oldest faults are for one validation each.
func TestFaultsForNamesFollowEachOther(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	s.FailValidation("a.example.com", "", acmetest.Problem{Type: "dns"}, acmetest.Times(1))
	s.FailValidation("a.example.com", "", acmetest.Problem{Type: "caa"}, acmetest.Times(1))
	c := newRawClient(t, s)
	c.register()
	for _, want := range []string{"dns", "caa", ""} {
		_, o := c.ready("a.example.com")
		a := c.get(o.authorizations()[0])
		problem := ""
		if list, _ := a.object["challenges"].([]any); len(list) == 1 {
			object, _ := list[0].(map[string]any)["error"].(map[string]any)
			problem, _ = object["type"].(string)
		}
		if want != "" {
			want = "urn:ietf:params:acme:error:" + want
		}
		if problem != want {
			t.Errorf("the problem is %q, want %q", problem, want)
		}
	}
}

// Of three orders the first gets stuck, until the fault is lifted.
func TestStuckProcessingSomeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		fault := s.StuckProcessing("a.example.com", acmetest.Times(1))
		c := newRawClient(t, s)
		c.register()
		for _, want := range []string{"processing", "valid", "valid"} {
			_, o := c.ready("a.example.com")
			a := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
			if got := a.str("status"); got != want {
				t.Errorf("status %s, want %s", got, want)
			}
		}
		fault.Lift()
		if _, err := s.WaitIssued(t.Context(), "a.example.com", 3); err != nil {
			t.Error(err)
		}
	})
}

// An order in state processing can get stuck too, by several faults.
func TestStuckProcessingOfALaterFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.Processing = time.Minute
		s.StartMemory()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		_, o := c.ready("a.example.com")
		c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
		first := s.StuckProcessing("a.example.com")
		second := s.StuckProcessing("*.example.com")
		time.Sleep(time.Hour)
		first.Lift()
		synctest.Wait()
		if n := len(s.Issued()); n != 0 {
			t.Error("issued before the second fault was lifted")
		}
		second.Lift()
		synctest.Wait()
		if n := len(s.Issued()); n != 1 {
			t.Error("not issued after the second fault was lifted")
		}
	})
}

func TestTruncate(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		client := newACMEClient(t, s)
		fault := s.Truncate(acmetest.Match{Endpoint: acmetest.NewOrder})
		o, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		if err == nil || !strings.HasSuffix(err.Error(), "unexpected EOF") {
			t.Errorf("order %+v, error %v", o, err)
		}
		if err := s.WaitInFlight(t.Context(), 0); err != nil {
			t.Error(err)
		}
		if n := len(s.Orders()); n != 1 {
			t.Errorf("%d orders, want 1: the request is handled", n)
		}
		fault.Lift()
		if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err != nil {
			t.Errorf("after the lift: %v", err)
		}

		s.Truncate(acmetest.Match{Endpoint: acmetest.Directory})
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		half := bytes.HasPrefix(body, []byte(`{"`)) && !bytes.HasSuffix(body, []byte("}")) && len(body) > 100
		if !errors.Is(err, io.ErrUnexpectedEOF) || !half {
			t.Errorf("body %q, error %v", body, err)
		}
		// Over a network this is reported before any header, and a HEAD is repeated once on a reused connection.
		s.Truncate(acmetest.Match{Endpoint: acmetest.NewNonce})
		if resp, err := s.Client().Head(newRawClient(t, s).endpoint("/new-nonce")); err == nil {
			t.Errorf("a reply without a body arrived: %v", resp)
		}
	})
}
