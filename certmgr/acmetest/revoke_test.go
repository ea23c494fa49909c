package acmetest_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

func (c *rawClient) revokeLeaf(leaf *x509.Certificate) answer {
	c.t.Helper()
	return c.do(post{url: c.endpoint("/revoke-cert"), payload: `{"certificate":"` + conformance.B64(leaf.Raw) + `"}`})
}

// TestRevocationByWhom: RFC 8555, section 7.6.
func TestRevocationByWhom(t *testing.T) {
	hosts := []string{"a.example.com", "b.example.com"}
	for _, test := range []struct {
		name   string
		revoke func(c, other *rawClient, certKey crypto.Signer) *rawClient // who asks
		status int
	}{
		{"the account that ordered it", func(c, _ *rawClient, _ crypto.Signer) *rawClient { return c }, 200},
		{"another account", func(_, other *rawClient, _ crypto.Signer) *rawClient { return other }, 403},
		{"an account that is authorized for one name", func(_, other *rawClient, _ crypto.Signer) *rawClient {
			other.ready("a.example.com")
			return other
		}, 403},
		{"an account that is authorized for all names", func(_, other *rawClient, _ crypto.Signer) *rawClient {
			other.ready("a.example.com")
			other.ready("b.example.com")
			return other
		}, 200},
		{"an account whose authorization is pending", func(_, other *rawClient, _ crypto.Signer) *rawClient {
			other.ready("a.example.com")
			other.order("b.example.com")
			return other
		}, 403},
		{"an account whose authorization was deactivated", func(_, other *rawClient, _ crypto.Signer) *rawClient {
			_, o := other.ready("a.example.com", "b.example.com")
			other.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`})
			return other
		}, 403},
		{"the certificate's key", func(c, _ *rawClient, certKey crypto.Signer) *rawClient {
			return &rawClient{t: c.t, server: c.server, key: certKey}
		}, 200},
		{"any other key", func(c, _ *rawClient, _ crypto.Signer) *rawClient { return newRawClient(c.t, c.server) }, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := acmetest.NewMemoryServer()
			defer s.Close()
			c, other := newRawClient(t, s), newRawClient(t, s)
			c.register()
			other.register()
			certKey := newECKey(t)
			leaf := c.issueWith(certKey, hosts...)
			a := test.revoke(c, other, certKey).revokeLeaf(leaf)
			if a.status != test.status || test.status != 200 && a.problem() != "unauthorized" {
				t.Errorf("got %d %s, want %d", a.status, a.body, test.status)
			}
			if revoked := len(s.Revoked()) == 1; revoked != (test.status == 200) {
				t.Errorf("revoked: %v\n%v", revoked, s)
			}
		})
	}
}

func TestRevocationReasons(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	allowed := map[int]bool{0: true, 1: true, 4: true, 5: true}
	for reason := -1; reason <= 11; reason++ {
		leaf := c.newLeaf(fmt.Sprintf("host%d.example.com", reason+1))
		payload := fmt.Sprintf(`{"certificate":%q,"reason":%d}`, conformance.B64(leaf.Raw), reason)
		a := c.do(post{url: c.endpoint("/revoke-cert"), payload: payload})
		if ok := a.status == 200; ok != allowed[reason] || !ok && a.problem() != "badRevocationReason" {
			t.Errorf("reason %d: %d %s", reason, a.status, a.body)
		}
	}
}

func TestRevocationRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		refused := func(name string, a answer, status int, typ string) {
			t.Helper()
			if a.status != status || a.problem() != typ {
				t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, status, typ)
			}
		}
		send := func(payload string) answer { return c.do(post{url: c.endpoint("/revoke-cert"), payload: payload}) }
		refused("no payload", send(""), 400, "malformed")
		refused("no certificate", send("{}"), 404, "malformed")
		refused("unknown certificate", send(`{"certificate":"AAAA"}`), 404, "malformed")
		refused("padding", send(`{"certificate":"AA=="}`), 400, "malformed")

		leaf, old := c.newLeaf("a.example.com"), c.newLeaf("b.example.com")
		if a := c.revokeLeaf(leaf); a.status != 200 {
			t.Fatalf("revocation: %d %s", a.status, a.body)
		}
		refused("twice", c.revokeLeaf(leaf), 400, "alreadyRevoked")
		time.Sleep(91 * day)
		refused("expired", c.revokeLeaf(old), 403, "unauthorized")
	})
}

// TestRevocationIsAboutTheCertificatesNames: it is logged and counted by name,
// and faults of a name apply.
func TestRevocationIsAboutTheCertificatesNames(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := newACMEClient(t, s)
	c := &rawClient{t: t, server: s, key: client.Key, kid: string(client.KID)}
	leaf := c.newLeaf("a.example.com", "b.example.com")
	for _, test := range []struct {
		host string
		hit  bool
	}{{"c.example.com", false}, {"b.example.com", true}} {
		fault := s.Status(acmetest.Match{Endpoint: acmetest.RevokeCert, Host: test.host, Count: 1}, 400, nil, acmetest.Problem{})
		err := client.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonUnspecified)
		fault.Lift()
		if (err != nil) != test.hit {
			t.Errorf("revocation with a fault for %s: %v", test.host, err)
		}
	}
	if n := s.CountHost(acmetest.RevokeCert, "a.example.com"); n != 2 {
		t.Errorf("%d revocations for a.example.com, want 2\n%v", n, s)
	}
}
