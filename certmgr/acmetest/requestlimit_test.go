package acmetest_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Limits on requests act before the CA handles them.
func TestRequestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.RateLimits = acmetest.LetsEncryptRateLimits()
		s.StartMemory()
		defer s.Close()
		c := newRawClient(t, s)
		for range 40 {
			if a := c.do(post{method: http.MethodGet, url: s.URL}); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		a := c.do(post{method: http.MethodGet, url: s.URL})
		if a.status != http.StatusServiceUnavailable || a.problem() != "rateLimited" || a.header.Get("Retry-After") != "1" ||
			!strings.Contains(a.str("detail"), "requests to directory for the address 127.0.0.1: the limit Requests[directory] is") {
			t.Errorf("%d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
		}
		time.Sleep(time.Second / 40)
		if a := c.do(post{method: http.MethodGet, url: s.URL}); a.status != http.StatusOK {
			t.Errorf("a 40th of a second later: %d", a.status)
		}

		c.register() // another endpoint
		nonce := c.nonce()
		order := func(c *rawClient, nonce string) answer {
			return c.do(post{url: c.endpoint("/orders/1"), header: map[string]any{"nonce": nonce}})
		}
		for range 125 {
			c.do(post{url: c.endpoint("/order/7"), body: []byte("{}")})
		}
		a = order(c, nonce)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Replay-Nonce") != "" ||
			!strings.Contains(a.str("detail"), "too many requests for the address 127.0.0.1: the limit Requests[Any] is 125") {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
		time.Sleep(time.Second)
		if a = order(c, nonce); a.status != http.StatusOK || a.header.Get("Replay-Nonce") == "" {
			t.Errorf("with the same nonce: %d %s", a.status, a.body)
		}
	})
}

// A third-party client recognises the rate limit, in seconds and as a date.
func TestRateLimitForAClient(t *testing.T) {
	for _, dates := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.RateLimits = &acmetest.RateLimits{NewOrders: acmetest.Limit{Burst: 1, Refill: 90 * time.Minute}}
			s.RetryAfterDates = dates
			s.StartMemory()
			defer s.Close()
			client := newACMEClient(t, s)
			client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return -1 }
			if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30*time.Minute + 300*time.Millisecond)
			_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
			if wait, ok := acme.RateLimit(err); !ok || wait.Round(time.Second) != time.Hour {
				t.Errorf("dates %v: wait %v: %v", dates, wait, err)
			}
			if requests := s.Requests(); requests[len(requests)-1].Problem != "rateLimited" {
				t.Errorf("the log does not show it\n%v", s)
			}
		})
	}
}
