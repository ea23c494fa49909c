package acmetest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestConsecutiveFailuresPause(t *testing.T) {
	limits := acmetest.RateLimits{ConsecutiveFailures: acmetest.Limit{Burst: 2, Refill: 1000 * time.Hour}}
	limited(t, limits, func(t *testing.T, s *acmetest.Server, c *rawClient) {
		fail := func(times int) {
			t.Helper()
			s.FailValidation("a.example.com", "", acmetest.Problem{}, acmetest.Times(times))
			for range times {
				c.ready("a.example.com")
			}
		}
		paused := func(a answer) {
			t.Helper()
			isLimited(t, a, "ConsecutiveFailures", 0)
			if !strings.Contains(a.str("detail"), " for a.example.com and possibly others. Please visit: https://") ||
				!strings.Contains(a.str("detail"), "Unpause") {
				t.Errorf("text %q", a.str("detail"))
			}
		}
		c.register()
		fail(2)
		leaf := c.newLeaf("a.example.com") // a success fills the bucket
		fail(2)
		if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
			t.Fatalf("paused too early: %s", a.body)
		}
		fail(1)
		paused(c.ask("", "b.example.com", "a.example.com"))
		time.Sleep(10_000 * time.Hour)
		paused(c.ask("", "a.example.com"))
		s.SetRenewalWindow(leaf, acmetest.RenewalWindow{Start: time.Now(), End: time.Now().Add(time.Hour)})
		paused(c.ask(acmetest.CertID(leaf), "a.example.com")) // nobody is exempt
		for _, a := range []answer{c.ask("", "b.example.com"), newRawClient(t, s).ask("", "a.example.com")} {
			if a.status != http.StatusCreated {
				t.Errorf("another name, another account: %s", a.body)
			}
		}
		s.Unpause("other.example.com")
		paused(c.ask("", "a.example.com"))
		s.Unpause("A.example.com")
		fail(2)
		if a := c.ask("", "a.example.com"); a.status != http.StatusCreated {
			t.Errorf("the failures were not forgotten: %s", a.body)
		}
		fail(1)
		paused(c.ask("", "a.example.com"))
		s.Unpause("a.example.com") // at once: no token has come back by itself
		fail(2)
		c.ready("a.example.com")
	})
}

func TestConsecutiveFailuresAreThoseOfOneAccount(t *testing.T) {
	limits := acmetest.RateLimits{ConsecutiveFailures: acmetest.Limit{Burst: 1}}
	limited(t, limits, func(t *testing.T, s *acmetest.Server, c *rawClient) {
		s.FailValidation("a.example.com", "", acmetest.Problem{})
		for range 2 {
			client := newRawClient(t, s)
			client.register()
			client.ready("a.example.com")
			if a := client.ask("", "a.example.com"); a.status != http.StatusCreated {
				t.Errorf("paused: %s", a.body)
			}
		}
	})
}
