package acmetest_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// limited runs a test in a bubble with a CA that has these limits, except those
// on requests, since requests take no time in a bubble.
func limited(t *testing.T, limits acmetest.RateLimits, f func(t *testing.T, s *acmetest.Server, c *rawClient)) {
	t.Helper()
	limits.Requests = nil
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.RateLimits = &limits
		s.StartMemory()
		defer s.Close()
		f(t, s, newRawClient(t, s))
	})
}

// ask requests an order, which replaces a certificate if that is not empty.
func (c *rawClient) ask(replaces string, hosts ...string) answer {
	c.t.Helper()
	if replaces == "" {
		return c.newOrder(nil, hosts...)
	}
	return c.replace(replaces, hosts...)
}

// obtain gets a certificate and returns the reply of newOrder, which may be a
// refusal.
func (c *rawClient) obtain(replaces string, hosts ...string) answer {
	c.t.Helper()
	for _, host := range hosts {
		c.server.Resolve(host, acmetest.Target{HTTPHandler: keyAuthorizer(c.t, c.key)})
	}
	o := c.ask(replaces, hosts...)
	if o.status != http.StatusCreated {
		return o
	}
	c.validate(o)
	var request x509.CertificateRequest
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		} else {
			request.DNSNames = append(request.DNSNames, host)
		}
	}
	if a := c.finalize(o, csr(c.t, newECKey(c.t), request)); a.str("status") != "valid" {
		c.t.Fatalf("finalize: %d %s", a.status, a.body)
	}
	return o
}

// isLimited checks a refusal: the limit that it names, and the wait (rounded up
// to seconds); zero means for ever.
func isLimited(t *testing.T, a answer, limit string, wait time.Duration) {
	t.Helper()
	if a.status != http.StatusTooManyRequests || a.problem() != "rateLimited" {
		t.Fatalf("not refused by %s: %d %s", limit, a.status, a.body)
	}
	detail, seconds := a.str("detail"), ""
	if wait > 0 {
		seconds = fmt.Sprint(int64(wait / time.Second))
		until := time.Now().Add(wait).UTC().Format("2006-01-02 15:04:05 UTC")
		if !strings.HasSuffix(detail, "retry after "+until) {
			t.Errorf("the text %q does not say %s", detail, until)
		}
	}
	if !strings.Contains(detail, limit) || a.header.Get("Retry-After") != seconds {
		t.Errorf("refused with Retry-After %q, %q; want %s, %q", a.header.Get("Retry-After"), detail, limit, seconds)
	}
}

// What Let's Encrypt allows at once, and when it allows one more. An event
// reports the limit that refused it.
func TestLetsEncryptRateLimits(t *testing.T) {
	tests := []struct {
		limit  string
		burst  int
		refill time.Duration
		event  func(c *rawClient, n int) answer
		whose  string // in the text
	}{
		{"NewAccounts", 10, 18 * time.Minute, func(c *rawClient, n int) answer {
			return newRawClient(c.t, c.server).do(post{url: c.endpoint("/new-account"), payload: `{}`})
		}, "new accounts for the address 127.0.0.1"},
		{"NewOrders", 300, 36 * time.Second, func(c *rawClient, n int) answer {
			return c.ask("", fmt.Sprintf("www.example-%d.com", n))
		}, "/account/1"},
		{"CertificatesPerDomain", 50, 201*time.Minute + 36*time.Second, func(c *rawClient, n int) answer {
			return c.obtain("", fmt.Sprintf("a%d.b.example.com", n))
		}, "names of example.com"},
		{"CertificatesPerDomain", 50, 201*time.Minute + 36*time.Second, func(c *rawClient, n int) answer {
			return c.obtain("", fmt.Sprintf("2001:db8:1:2:%x::1", n+1))
		}, "names of 2001:db8:1:2::/64"},
		{"CertificatesPerSet", 5, 33*time.Hour + 36*time.Minute, func(c *rawClient, n int) answer {
			return c.obtain("", "www.example.com", "192.0.2.1", "example.com")
		}, "exactly the names 192.0.2.1,example.com,www.example.com"},
		{"FailedValidations", 5, 12 * time.Minute, func(c *rawClient, n int) answer {
			c.server.Resolve("www.example.com", acmetest.Target{})
			o := c.ask("", "www.example.com", fmt.Sprintf("other.example-%d.com", n))
			if o.status == http.StatusCreated {
				o.object["authorizations"] = o.object["authorizations"].([]any)[1:] // the first is for other
				c.validate(o)
			}
			return o
		}, "www.example.com by"},
	}
	for _, tt := range tests {
		t.Run(tt.limit, func(t *testing.T) {
			limited(t, *acmetest.LetsEncryptRateLimits(), func(t *testing.T, s *acmetest.Server, c *rawClient) {
				if tt.limit != "NewAccounts" {
					c.register()
				}
				n := 0
				event := func(n int) answer { t.Helper(); return tt.event(c, n) }
				for ; n < tt.burst; n++ {
					if a := event(n); a.status != http.StatusCreated {
						t.Fatalf("number %d was refused: %s", n+1, a.body)
					}
				}
				refused := event(n)
				isLimited(t, refused, tt.limit, tt.refill)
				if !strings.Contains(refused.str("detail"), tt.whose) {
					t.Errorf("the text %q does not say %q", refused.str("detail"), tt.whose)
				}
				time.Sleep(tt.refill - time.Second)
				isLimited(t, event(n), tt.limit, time.Second)
				time.Sleep(time.Second)
				if a := event(n); a.status != http.StatusCreated {
					t.Errorf("after the time the CA named: %d %s", a.status, a.body)
				}
				isLimited(t, event(n+1), tt.limit, tt.refill)
			})
		})
	}
}

// The limits do not affect anything else.
func TestRateLimitsAreSeparate(t *testing.T) {
	one, two := acmetest.Limit{Burst: 1, Refill: time.Hour}, acmetest.Limit{Burst: 2, Refill: time.Hour}
	type step struct {
		second bool // by another account
		hosts  []string
		want   string // limit that refuses it
	}
	tests := []struct {
		name   string
		limits acmetest.RateLimits
		steps  []step
	}{
		{"none", acmetest.RateLimits{}, []step{{hosts: []string{"a.example.com"}}, {hosts: []string{"a.example.com"}}}},
		{"orders are counted for each account", acmetest.RateLimits{NewOrders: one}, []step{
			{false, []string{"a.example.com"}, ""},
			{false, []string{"b.example.com"}, "NewOrders"},
			{true, []string{"b.example.com"}, ""},
			{true, []string{"c.example.com"}, "NewOrders"},
		}},
		{"renewals are exempt from NewOrders", acmetest.RateLimits{NewOrders: one}, []step{
			{false, []string{"a.example.com", "b.example.com"}, ""},
			{false, []string{"b.example.com", "a.example.com"}, ""},
			{false, []string{"A.example.com", "b.example.com"}, ""},
			{false, []string{"a.example.com"}, "NewOrders"},
		}},
		{"domains are counted over all accounts", acmetest.RateLimits{CertificatesPerDomain: one}, []step{
			{false, []string{"a.example.com"}, ""},
			{true, []string{"b.example.com"}, "CertificatesPerDomain"},
			{true, []string{"b.example.org"}, ""},
			{false, []string{"example.net", "b.example.org"}, "CertificatesPerDomain"},
			{false, []string{"example.net"}, ""},
		}},
		{"renewals are exempt from CertificatesPerDomain, by any account", acmetest.RateLimits{CertificatesPerDomain: two}, []step{
			{false, []string{"a.example.com"}, ""},
			{false, []string{"a.example.com"}, ""},
			{true, []string{"a.example.com"}, ""},
			{false, []string{"a.example.com", "a.example.org"}, ""},
			{false, []string{"b.example.com"}, "CertificatesPerDomain"},
			{true, []string{"a.example.com"}, ""},
		}},
		{"one certificate spends one token of a domain", acmetest.RateLimits{CertificatesPerDomain: two}, []step{
			{false, []string{"a.example.com", "b.example.com", "example.com"}, ""},
			{false, []string{"a.example.com"}, ""},
			{false, []string{"b.example.com"}, "CertificatesPerDomain"},
		}},
		{"addresses", acmetest.RateLimits{CertificatesPerDomain: one}, []step{
			{false, []string{"192.0.2.1", "2001:db8::1"}, ""},
			{false, []string{"192.0.2.2", "2001:db8:0:1::1"}, ""},
			{false, []string{"192.0.2.1"}, "CertificatesPerDomain"},
			{false, []string{"2001:db8::ffff:ffff:ffff:ffff"}, "CertificatesPerDomain"},
		}},
		{"sets are counted over all accounts", acmetest.RateLimits{CertificatesPerSet: one}, []step{
			{false, []string{"a.example.com"}, ""},
			{false, []string{"a.example.com", "b.example.com"}, ""},
			{true, []string{"a.example.com"}, "CertificatesPerSet"},
			{true, []string{"b.example.com", "a.example.com"}, "CertificatesPerSet"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limited(t, tt.limits, func(t *testing.T, s *acmetest.Server, c *rawClient) {
				second := newRawClient(t, s)
				for i, step := range tt.steps {
					who := c
					if step.second {
						who = second
					}
					a := who.obtain("", step.hosts...)
					if step.want != "" {
						isLimited(t, a, step.want, time.Hour)
					} else if a.status != http.StatusCreated {
						t.Fatalf("step %d: %d %s\n%v", i, a.status, a.body, s)
					}
				}
			})
		})
	}
}

// Certificates are counted when they are issued, not when they are ordered.
func TestRateLimitsOfCertificatesAreSpentAtIssuance(t *testing.T) {
	limited(t, acmetest.RateLimits{CertificatesPerSet: acmetest.Limit{Burst: 1, Refill: time.Hour}},
		func(t *testing.T, s *acmetest.Server, c *rawClient) {
			for range 3 {
				if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			c.newLeaf("a.example.com")
			isLimited(t, c.ask("", "a.example.com"), "CertificatesPerSet", time.Hour)
		})
}

// For 120 days an order with the same names is a renewal.
func TestRenewalExemptionEnds(t *testing.T) {
	limited(t, acmetest.RateLimits{CertificatesPerDomain: acmetest.Limit{Burst: 1}},
		func(t *testing.T, s *acmetest.Server, c *rawClient) {
			c.newLeaf("a.example.com")
			isLimited(t, c.ask("", "b.example.com"), "CertificatesPerDomain", 0)
			time.Sleep(120 * day)
			if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
				t.Errorf("after 120 days: %s", a.body)
			}
			time.Sleep(time.Second)
			isLimited(t, c.ask("", "a.example.com"), "CertificatesPerDomain", 0)
		})
}

// An order that replaces a certificate in its window is exempt from all limits;
// another is not.
func TestReplacementsInTheirWindowAreExempt(t *testing.T) {
	one := acmetest.Limit{Burst: 1, Refill: 1000 * time.Hour}
	limits := acmetest.RateLimits{NewOrders: one, CertificatesPerDomain: one, CertificatesPerSet: one, FailedValidations: one}
	limited(t, limits, func(t *testing.T, s *acmetest.Server, c *rawClient) {
		leaf := c.newLeaf("a.example.com")
		s.FailValidation("b.example.com", "", acmetest.Problem{}, acmetest.Times(1))
		s.SetClockSkew(1000 * time.Hour) // one order more
		c.ready("b.example.com")
		s.SetClockSkew(0)

		isLimited(t, c.ask(acmetest.CertID(leaf), "a.example.com"), "CertificatesPerSet", 1000*time.Hour)
		isLimited(t, c.ask(acmetest.CertID(leaf), "a.example.com", "c.example.com"), "NewOrders", 1000*time.Hour)
		s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: time.Now().Add(time.Hour), End: time.Now().Add(2 * time.Hour)})
		isLimited(t, c.ask(acmetest.CertID(leaf), "a.example.com"), "CertificatesPerSet", 1000*time.Hour)
		s.SetClockSkew(time.Hour)
		// With the failed names, others and an address: nothing is counted or
		// refused.
		if a := c.obtain(acmetest.CertID(leaf), "a.example.com", "b.example.com", "d.example.com"); a.status != http.StatusCreated {
			t.Fatalf("in the window: %s", a.body)
		}
		if a := c.ask(acmetest.CertID(leaf), "a.example.com"); a.problem() != "alreadyReplaced" {
			t.Errorf("a second replacement: %d %s", a.status, a.body)
		}
	})
}

func TestRegisteredDomain(t *testing.T) {
	tests := []struct {
		name   string
		f      func(host string) (string, error)
		first  string
		second string
		whose  string // bucket refuses the second; empty if it is allowed
	}{
		{"by default two labels", nil, "a.example.co.uk", "b.other.co.uk", "names of co.uk:"},
		{"a wildcard", nil, "a.example.com", "*.b.example.com", "names of example.com:"},
		{"public suffixes", publicsuffix.EffectiveTLDPlusOne, "a.example.co.uk", "b.other.co.uk", ""},
		{"the same domain", publicsuffix.EffectiveTLDPlusOne, "a.example.co.uk", "*.example.co.uk", "names of example.co.uk:"},
		{"a public suffix counts for itself", publicsuffix.EffectiveTLDPlusOne, "github.io", "a.github.io", ""},
		{"a wildcard below a public suffix", publicsuffix.EffectiveTLDPlusOne, "github.io", "*.github.io", "names of github.io:"},
		{"an error", func(string) (string, error) { return "x", errors.New("no") }, "a.example.com", "b.example.com", ""},
		{"nothing", func(string) (string, error) { return "", nil }, "a.example.com", "b.example.com", ""},
		{"its own", func(string) (string, error) { return "x", nil }, "a.example.com", "example.org", "names of x:"},
		{"not for addresses", func(string) (string, error) { return "x", nil }, "192.0.2.1", "example.org", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limits := acmetest.RateLimits{CertificatesPerDomain: acmetest.Limit{Burst: 1}, RegisteredDomain: tt.f}
			limited(t, limits, func(t *testing.T, s *acmetest.Server, c *rawClient) {
				if a := c.obtain("", tt.first); a.status != http.StatusCreated {
					t.Fatal(a.str("detail"))
				}
				a := c.ask("", tt.second)
				refused := a.status != http.StatusCreated
				if refused != (tt.whose != "") || !strings.Contains(a.str("detail"), tt.whose) {
					t.Errorf("%d %s; want %q", a.status, a.body, tt.whose)
				}
			})
		})
	}
}

func TestNewAccountLimitCountsNewOnes(t *testing.T) {
	limited(t, acmetest.RateLimits{NewAccounts: acmetest.Limit{Burst: 1, Refill: time.Minute}},
		func(t *testing.T, s *acmetest.Server, c *rawClient) {
			other := newRawClient(t, s)
			ask := func(c *rawClient, payload string) answer {
				t.Helper()
				return c.do(post{url: c.endpoint("/new-account"), payload: payload})
			}
			for range 3 { // refused for another reason, so nothing is spent
				if a := ask(c, `{"contact":["tel:1"]}`); a.problem() != "unsupportedContact" {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			for i, want := range []int{http.StatusCreated, http.StatusOK, http.StatusOK} {
				if a := ask(c, `{}`); a.status != want {
					t.Errorf("request %d: %d %s", i, a.status, a.body)
				}
			}
			isLimited(t, ask(other, `{}`), "NewAccounts", time.Minute)
			if a := ask(other, `{"onlyReturnExisting":true}`); a.problem() != "accountDoesNotExist" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
}

// After the clock is set back, the wait is at most that for one token.
func TestRateLimitsFollowTheClock(t *testing.T) {
	limited(t, acmetest.RateLimits{NewOrders: acmetest.Limit{Burst: 2, Refill: time.Hour}},
		func(t *testing.T, s *acmetest.Server, c *rawClient) {
			s.SetClockSkew(100 * day)
			c.ask("", "a.example.com")
			c.ask("", "a.example.com")
			s.SetClockSkew(0)
			isLimited(t, c.ask("", "a.example.com"), "NewOrders", time.Hour)
			time.Sleep(time.Hour)
			if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
				t.Errorf("an hour later: %s", a.body)
			}
			s.SetClockSkew(2 * time.Hour)
			for range 2 {
				if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
					t.Errorf("a clock that is ahead refills: %s", a.body)
				}
			}
		})
}
