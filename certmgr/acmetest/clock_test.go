package acmetest_test

import (
	"crypto/x509"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestSkewMovesWhatTheCADates(t *testing.T) {
	for _, skew := range []time.Duration{0, 3 * time.Hour, -200 * day, 200 * day} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			s.SetClockSkew(skew)
			now := time.Now().Add(skew)
			c := newRawClient(t, s)
			c.register()

			u, o := c.ready("a.example.com")
			a := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
			if a.str("status") != "valid" {
				t.Fatalf("skew %v: order %s", skew, a.body)
			}
			if got := a.header.Get("Date"); got != now.UTC().Format(http.TimeFormat) {
				t.Errorf("skew %v: Date %q, want that of %v", skew, got, now)
			}
			if got := c.get(u).str("expires"); got != now.Add(7*day).UTC().Format(time.RFC3339) {
				t.Errorf("skew %v: the order expires %s", skew, got)
			}
			leaf := s.Issued()[0]
			if want := now.Add(-time.Hour); !leaf.NotBefore.Equal(want) || !leaf.NotAfter.Equal(want.Add(90*day-time.Second)) {
				t.Errorf("skew %v: a certificate from %v to %v, want from %v", skew, leaf.NotBefore, leaf.NotAfter, want)
			}
		})
	}
}

func TestSkewDecidesWhatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.ReuseAuthorizations = true
		s.StartMemory()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		_, pending := c.order("pending.example.com")
		c.ready("valid.example.com")
		status := func() string {
			t.Helper()
			_, o := c.order("valid.example.com")
			return o.str("status")
		}

		s.SetClockSkew(-20 * day)
		if a := c.get(pending.header.Get("Location")); a.str("status") != "pending" {
			t.Errorf("20 days back: %s", a.body)
		}
		s.SetClockSkew(7 * day)
		if a := c.get(pending.header.Get("Location")); a.str("status") != "pending" {
			t.Errorf("at the end: %s", a.body)
		}
		s.SetClockSkew(7*day + time.Second)
		if a := c.get(pending.header.Get("Location")); a.str("status") != "invalid" {
			t.Errorf("after the end: %s", a.body)
		}
		s.SetClockSkew(30 * day)
		if got := status(); got != "ready" {
			t.Errorf("an order with an authorization that is still valid: %s", got)
		}
		s.SetClockSkew(30*day + time.Second)
		if got := status(); got != "pending" {
			t.Errorf("an order with an authorization that was valid: %s", got)
		}
	})
}

func TestSkewMakesNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.Processing = 10 * time.Second
		s.StartMemory()
		defer s.Close()
		s.SetClockSkew(-time.Hour)
		c := newRawClient(t, s)
		c.register()
		_, o := c.ready("a.example.com")
		begin := time.Now()
		c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
		s.SetClockSkew(time.Hour)
		if _, err := s.WaitIssued(t.Context(), "a.example.com", 1); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got != 10*time.Second {
			t.Errorf("issued after %v, want exactly 10s", got)
		}
		if got := s.Requests()[0].Time; got.After(begin) {
			t.Errorf("the log of requests is dated %v", got)
		}
	})
}

// The CA's own Retry-After is in seconds or a date, as the test wants; values
// set by the test are not changed.
func TestRetryAfterDates(t *testing.T) {
	for _, dates := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.RetryAfterDates = dates
			s.StartMemory()
			defer s.Close()
			time.Sleep(300 * time.Millisecond) // so that dates have to be rounded
			s.SetClockSkew(time.Hour)
			c := newRawClient(t, s)
			leaf := c.newLeaf("a.example.com")
			a := c.renewalInfo(acmetest.CertID(leaf))
			want := "21600"
			if dates {
				want = time.Now().Add(7*time.Hour + 700*time.Millisecond).UTC().Format(http.TimeFormat)
			}
			if got := a.header.Get("Retry-After"); got != want {
				t.Errorf("dates %v: Retry-After %q, want %q", dates, got, want)
			}
			s.RetryAfter(acmetest.RenewalInfo, "-7")
			if got := c.renewalInfo(acmetest.CertID(leaf)).header.Get("Retry-After"); got != "-7" {
				t.Errorf("dates %v: Retry-After %q, want the test's", dates, got)
			}
		})
	}
}
