package acmetest_test

import (
	"crypto/x509"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// The first reads do not find a new resource, then they do not see its change.
func TestReplicationLagOfReads(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	s.Resolve("a.example.com", acmetest.Target{HTTPHandler: keyAuthorizer(t, c.key)})
	lift := s.ReplicationLag(acmetest.Match{}, acmetest.Lag{Reads: 2}).Lift
	u, o := c.order("a.example.com")
	want := func(url string, statuses ...string) (a answer) {
		t.Helper()
		for i, want := range statuses {
			a = c.get(url)
			if want == "404" && (a.status != http.StatusNotFound || a.problem() != "malformed" || lastRequest(s).Fault != "ReplicationLag") ||
				want != "404" && (a.status != http.StatusOK || a.str("status") != want) {
				t.Errorf("read %d of %s: %d %s, want %s", i+1, url, a.status, a.body, want)
			}
		}
		return a
	}
	want(u, "404", "404", "pending", "pending")
	authorization := o.authorizations()[0]
	challenge := want(authorization, "404", "404", "pending").challenge("http-01")
	if a := c.do(post{url: challenge, payload: "{}"}); a.status != http.StatusOK {
		t.Fatalf("a write reaches the CA: %d %s", a.status, a.body)
	}
	if err := s.WaitUntil(t.Context(), "validation", func() bool { return s.Authorizations("a.example.com")[0] == "valid" }); err != nil {
		t.Fatal(err)
	}
	want(authorization, "pending", "pending", "valid", "valid")
	want(u, "pending", "pending", "ready")
	a := c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com"))
	if a.str("status") != "valid" {
		t.Fatalf("finalize: %d %s", a.status, a.body)
	}
	want(u, "ready", "ready", "valid")
	certificate := a.str("certificate")
	for i, status := range []int{404, 404, 200} {
		if a := c.get(certificate); a.status != status {
			t.Errorf("read %d of the certificate: %d %s", i+1, a.status, a.body)
		}
	}
	second, _ := c.order("a.example.com")
	lift()
	want(second, "pending")
}

func TestReplicationLagOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		s.ReplicationLag(acmetest.Match{Endpoint: acmetest.Order}, acmetest.Lag{For: 2 * time.Second})
		u, o := c.order("a.example.com")
		time.Sleep(2*time.Second - 1)
		if a := c.get(u); a.status != http.StatusNotFound {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := c.get(o.authorizations()[0]); a.status != http.StatusOK {
			t.Errorf("another endpoint: %d %s", a.status, a.body)
		}
		time.Sleep(time.Nanosecond)
		if a := c.get(u); a.str("status") != "pending" {
			t.Errorf("%d %s", a.status, a.body)
		}
		s.DeactivateAccount(c.kid) // refusals are as ever
		if a := c.get(u); a.problem() != "unauthorized" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	synctest.Test(t, func(t *testing.T) { // renewal information, for ever
		s := acmetest.NewMemoryServer()
		defer s.Close()
		lift := s.ReplicationLag(acmetest.Match{Endpoint: acmetest.RenewalInfo}, acmetest.Lag{}).Lift
		c := newRawClient(t, s)
		u := c.endpoint("/renewal-info/") + acmetest.CertID(c.newLeaf("a.example.com"))
		for _, want := range []int{404, 200} {
			time.Sleep(1000 * time.Hour)
			if resp, body := send(t, s, http.MethodGet, u); resp.StatusCode != want {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, want)
			}
			lift()
		}
	})
}
