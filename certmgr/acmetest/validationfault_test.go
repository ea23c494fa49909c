package acmetest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestRefuseSecondAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		s.SlowValidation("*", time.Minute)
		lift := s.RefuseSecondAccept("a.example.com").Lift
		c := newRawClient(t, s)
		_, o := c.order("a.example.com")
		accept := post{url: c.get(o.authorizations()[0]).challenge("http-01"), payload: "{}"}
		if a := c.do(accept); a.status != http.StatusOK {
			t.Errorf("first: %d %s", a.status, a.body)
		}
		if a := c.do(accept); a.status != http.StatusConflict || a.problem() != "conflict" || lastRequest(s).Fault != "RefuseSecondAccept" {
			t.Errorf("second: %d %s", a.status, a.body)
		}
		if a := c.get(accept.url); a.status != http.StatusOK || a.str("status") != "processing" {
			t.Errorf("read: %d %s", a.status, a.body)
		}
		lift()
		if a := c.do(accept); a.status != http.StatusOK {
			t.Errorf("after the lift: %d %s", a.status, a.body)
		}
	})
}

func TestSlowValidation(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		client := newACMEClient(t, s)
		lift := s.SlowValidation("a.example.com", time.Minute, acmetest.Times(2)).Lift
		for i, want := range []time.Duration{time.Minute, 10 * time.Second, 0} {
			if i == 1 {
				time.AfterFunc(want, lift)
			}
			start := time.Now()
			if _, _, err := obtain(t.Context(), t, client, r, "tls-alpn-01", "a.example.com"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d < want || d > want+2*time.Second { // the client polls each second
				t.Errorf("validation %d took %v, want %v", i, d, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // Close does not wait
		s := acmetest.NewMemoryServer()
		s.SlowValidation("*", time.Hour)
		c := newRawClient(t, s)
		_, o := c.order("a.example.com")
		c.do(post{url: c.get(o.authorizations()[0]).challenge("http-01"), payload: "{}"})
		start := time.Now()
		s.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

func TestFailSecondaryValidation(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		client := newACMEClient(t, s)
		get := func(typ, host string) (problem *acme.Error) {
			_, _, err := obtain(t.Context(), t, client, r, typ, host)
			if failed, ok := errors.AsType[*acme.AuthorizationError](err); ok {
				problem, _ = errors.AsType[*acme.Error](failed.Errors[0])
			} else if err != nil {
				t.Fatal(err)
			}
			return problem
		}
		lift := s.FailSecondaryValidation("*.example.com", "http-01", acmetest.Problem{}).Lift
		p := get("http-01", "a.example.com")
		if p == nil || p.ProblemType != "urn:ietf:params:acme:error:connection" ||
			p.Detail != "During secondary validation: 192.0.2.1: Timeout during connect (likely firewall problem)" {
			t.Errorf("problem %v", p)
		}
		if p := get("tls-alpn-01", "a.example.com"); p != nil {
			t.Errorf("another type: %v", p)
		}
		s.Resolve("b.example.com", acmetest.Target{}) // where nobody is
		if p := get("http-01", "b.example.com"); p == nil || strings.Contains(p.Detail, "secondary") {
			t.Errorf("the first perspective fails: %v", p)
		}
		lift()
		if p := get("http-01", "a.example.com"); p != nil {
			t.Errorf("after the lift: %v", p)
		}
		s.FailSecondaryValidation("a.example.com", "", acmetest.Problem{Type: "caa", Detail: "no"}, acmetest.Times(1))
		if p := get("tls-alpn-01", "a.example.com"); p == nil || p.Detail != "During secondary validation: no" {
			t.Errorf("problem %v", p)
		}
	})
}
