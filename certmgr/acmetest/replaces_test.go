package acmetest_test

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// replace orders a certificate for names, to replace another.
func (c *rawClient) replace(certID string, hosts ...string) answer {
	c.t.Helper()
	return c.newOrder(map[string]any{"replaces": certID}, hosts...)
}

func TestReplacesIsChecked(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c, stranger := newRawClient(t, s), newRawClient(t, s)
	stranger.register()
	leaf := c.newLeaf("www.example.com")
	id := acmetest.CertID(leaf)
	for _, test := range []struct {
		name    string
		client  *rawClient
		certID  string
		host    string
		problem string
		status  int
	}{
		{"malformed", c, "no-dot", "www.example.com", "malformed", 400},
		{"padding", c, id + "=", "www.example.com", "malformed", 400},
		{"unknown", c, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "www.example.com", "malformed", 404},
		{"of another account", stranger, id, "www.example.com", "unauthorized", 403},
		{"no name in common", c, id, "other.example.com", "malformed", 400},
	} {
		if a := test.client.replace(test.certID, test.host); a.status != test.status || a.problem() != test.problem {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
	// None of these replaced it.
	a := c.replace(id, "new.example.com", "www.example.com")
	if a.status != 201 || a.str("replaces") != id {
		t.Fatalf("newOrder: %d %s", a.status, a.body)
	}
	if again := c.get(a.header.Get("Location")); again.str("replaces") != id {
		t.Errorf("the order does not show it: %s", again.body)
	}
	if a := c.replace("", "www.example.com"); a.status != 201 || a.object["replaces"] != nil {
		t.Errorf("empty: %d %s", a.status, a.body)
	}
}

func TestACertificateIsReplacedOnceByAnOrderThatIsNotInvalid(t *testing.T) {
	for _, test := range []struct {
		name     string
		happens  func(t *testing.T, c *rawClient, o answer) // to the first order
		replaced bool
	}{
		{"pending", func(*testing.T, *rawClient, answer) {}, true},
		{"valid", func(t *testing.T, c *rawClient, o answer) {
			c.validate(o)
			done := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "www.example.com"))
			if done.str("status") != "valid" || done.str("replaces") == "" {
				t.Fatalf("finalize: %s", done.body)
			}
			time.Sleep(100 * day) // the order has expired, what it did holds
		}, true},
		{"deactivated", func(_ *testing.T, c *rawClient, o answer) {
			c.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`})
		}, false},
		{"expired", func(*testing.T, *rawClient, answer) { time.Sleep(8 * day) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				c := newRawClient(t, s)
				id := acmetest.CertID(c.newLeaf("www.example.com"))
				o := c.replace(id, "www.example.com")
				test.happens(t, c, o)
				status, problem := 201, ""
				if test.replaced {
					status, problem = 409, "alreadyReplaced"
				}
				if a := c.replace(id, "www.example.com"); a.status != status || a.problem() != problem {
					t.Errorf("second order: %d %s", a.status, a.body)
				}
				if a := c.replace("", "www.example.com"); a.status != 201 {
					t.Errorf("without replaces: %d %s", a.status, a.body)
				}
			})
		})
	}
}

func TestAnOrderThatIsInvalidAtOnceReplacesNothing(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	id := acmetest.CertID(c.newLeaf("www.example.com"))
	fault := s.InvalidOrder("www.example.com")
	for range 2 {
		if a := c.replace(id, "www.example.com"); a.status != 201 || a.str("status") != "invalid" {
			t.Errorf("newOrder: %d %s", a.status, a.body)
		}
	}
	fault.Lift()
	if a := c.replace(id, "www.example.com"); a.str("status") != "pending" {
		t.Errorf("newOrder: %d %s", a.status, a.body)
	}
}

func TestAnOrderIsInWindowIfItIsPlacedWithinThatOfWhatItReplaces(t *testing.T) {
	for _, test := range []struct {
		start, end time.Duration // from now
		want       bool
	}{
		{-time.Hour, time.Hour, true},
		{0, time.Hour, true},
		{-time.Hour, 0, false},
		{time.Second, time.Hour, false},
		{-2 * time.Hour, -time.Hour, false}, // renew now, but it is over
		{time.Hour, -time.Hour, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			c := newRawClient(t, s)
			leaf := c.newLeaf("www.example.com")
			now := time.Now()
			s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: now.Add(test.start), End: now.Add(test.end)})
			c.replace(acmetest.CertID(leaf), "www.example.com")
			s.SetRenewalWindow(leaf, acmetest.RenewalWindow{}) // what was then counts
			orders := s.Orders()
			if orders[0].InWindow || orders[1].InWindow != test.want {
				t.Errorf("window from %v to %v: in window %v, %v; want false, %v",
					test.start, test.end, orders[0].InWindow, orders[1].InWindow, test.want)
			}
		})
	}
}
