package acmetest_test

import (
	"crypto/x509"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestReuseOrder(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.Profiles = map[string]acmetest.Profile{"short": {Lifetime: time.Hour}}
	s.StartMemory()
	defer s.Close()
	c, other := newRawClient(t, s), newRawClient(t, s)
	first, _ := c.order("b.example.com", "a.example.com")
	fault := s.ReuseOrder("a.example.com")
	ask := func(c *rawClient, profile map[string]any, hosts ...string) string {
		t.Helper()
		a := c.newOrder(profile, hosts...)
		if a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.header.Get("Location")
	}
	if u := ask(c, nil, "a.example.com", "b.example.com"); u != first || lastRequest(s).Fault != "ReuseOrder" {
		t.Errorf("order %s, want %s", u, first)
	}
	for what, u := range map[string]string{
		"another set":     ask(c, nil, "a.example.com"),
		"another account": ask(other, nil, "a.example.com", "b.example.com"),
		"another profile": ask(c, map[string]any{"profile": "short"}, "a.example.com", "b.example.com"),
	} {
		if u == first || lastRequest(s).Fault != "" {
			t.Errorf("%s got the order", what)
		}
	}
	u, o := c.ready("a.example.com", "b.example.com")
	if u != first {
		t.Errorf("%s is ready, want %s", u, first)
	}
	if u := ask(c, nil, "a.example.com", "b.example.com"); u != first {
		t.Error("the ready order was not reused")
	}
	c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com", "b.example.com"))
	last := ask(c, nil, "a.example.com", "b.example.com")
	if last == first {
		t.Error("the order was reused after it was finalized")
	}
	fault.Lift()
	if u := ask(c, nil, "a.example.com", "b.example.com"); u == last || fault.Acted() != 3 {
		t.Errorf("the order was reused after the lift, or not 3 times but %d", fault.Acted())
	}
}

func TestReusePendingAuthorization(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c, other := newRawClient(t, s), newRawClient(t, s)
	s.Resolve("a.example.com", acmetest.Target{HTTPHandler: keyAuthorizer(t, c.key)})
	of := func(c *rawClient) string { _, o := c.order("a.example.com"); return o.authorizations()[0] }
	first := of(c)
	fault := s.ReusePendingAuthorization("a.example.com")
	if of(c) != first || of(other) == first {
		t.Error("the account's pending authorization is reused, and nobody else's")
	}
	if _, o := c.ready("a.example.com"); o.authorizations()[0] != first {
		t.Error("another authorization was validated")
	}
	for _, o := range s.Orders() {
		if want := map[bool]string{true: "ready", false: "pending"}[o.Account == c.kid]; o.Status != want {
			t.Errorf("order %s is %s, want %s", o.URL, o.Status, want)
		}
	}
	next := of(c)
	if next == first {
		t.Error("a valid authorization was reused")
	}
	fault.Lift()
	if of(c) == next || fault.Acted() != 2 {
		t.Errorf("an authorization was reused after the lift, or not twice but %d times", fault.Acted())
	}
}

func TestStaysReady(t *testing.T) {
	for _, d := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			lift := s.StaysReady("a.example.com", d, acmetest.Times(1)).Lift
			c := newRawClient(t, s)
			c.register()
			u, o := c.ready("a.example.com")
			request := csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com")
			seemsReady := func(a answer) bool {
				return a.status == 200 && a.str("status") == "ready" && a.str("certificate") == ""
			}
			if a := c.finalize(o, request); !seemsReady(a) {
				t.Errorf("finalize: %d %s", a.status, a.body)
			}
			if a := c.finalize(o, request); a.problem() != "orderNotReady" {
				t.Errorf("finalize again: %d %s", a.status, a.body)
			}
			if len(s.Issued()) != 1 || s.Orders()[0].Status != "valid" {
				t.Errorf("nothing was issued\n%v", s)
			}
			time.Sleep(3*time.Second - 1)
			if a := c.get(u); !seemsReady(a) {
				t.Errorf("read: %d %s", a.status, a.body)
			}
			time.Sleep(time.Nanosecond)
			if d == 0 {
				lift()
			}
			if a := c.get(u); a.str("status") != "valid" || a.str("certificate") == "" {
				t.Errorf("at the end: %d %s", a.status, a.body)
			}
			c.newLeaf("a.example.com") // once only
		})
	}
}
