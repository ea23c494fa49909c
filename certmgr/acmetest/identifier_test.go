package acmetest_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// control answers the challenges of one client for any kind of name.
type control struct {
	server *acmetest.Server
	client *acme.Client
	record string // added to the TXT table instead of the right one
}

// answer makes a challenge succeed, and returns a function that undoes it.
func (c control) answer(t *testing.T, name string, challenge *acme.Challenge) (undo func()) {
	t.Helper()
	base := strings.TrimPrefix(name, "*.")
	switch challenge.Type {
	case "dns-01":
		value, err := c.client.DNS01ChallengeRecord(challenge.Token)
		if err != nil {
			t.Fatal(err)
		}
		if c.record != "" {
			value = c.record
		}
		record := "_Acme-Challenge." + base + "." // as a provider may write it
		c.server.AddTXT(record, value)
		return func() { c.server.RemoveTXT(record, value) }
	case "tls-alpn-01":
		cert, err := c.client.TLSALPN01ChallengeCert(challenge.Token, base)
		if err != nil {
			t.Fatal(err)
		}
		c.server.Resolve(base, acmetest.Target{TLSConfig: &tls.Config{
			NextProtos: []string{acme.ALPNProto},
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if want := reverse[base]; want != "" && hello.ServerName != want {
					t.Errorf("the CA asked for %q, want %q", hello.ServerName, want)
				}
				return &cert, nil
			},
		}})
	default:
		answer, err := c.client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			t.Fatal(err)
		}
		path := c.client.HTTP01ChallengePath(challenge.Token)
		c.server.Resolve(base, acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				_, _ = w.Write([]byte(answer))
			}
		})})
	}
	return func() { c.server.Unresolve(base) }
}

// reverse holds the names that tls-alpn-01 uses for addresses (RFC 8738,
// section 6).
var reverse = map[string]string{
	"192.0.2.1":    "1.2.0.192.in-addr.arpa",
	"2001:db8::1f": "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
}

// obtain gets a certificate for names by one type of challenge.
func (c control) obtain(ctx context.Context, t *testing.T, typ string, names ...string) (*x509.Certificate, error) {
	t.Helper()
	var ids []acme.AuthzID
	request := &x509.CertificateRequest{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ids = append(ids, acme.IPIDs(name)...)
			request.IPAddresses = append(request.IPAddresses, ip)
			continue
		}
		ids = append(ids, acme.DomainIDs(name)...)
		request.DNSNames = append(request.DNSNames, name)
	}
	o, err := c.client.AuthorizeOrder(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, u := range o.AuthzURLs {
		authz, err := c.client.GetAuthorization(ctx, u)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(authz.Challenges, func(c *acme.Challenge) bool { return c.Type == typ })
		if i < 0 {
			t.Fatalf("%s is not offered %s", authz.Identifier.Value, typ)
		}
		defer c.answer(t, authz.Identifier.Value, authz.Challenges[i])()
		if _, err := c.client.Accept(ctx, authz.Challenges[i]); err != nil {
			return nil, err
		}
		if _, err := c.client.WaitAuthorization(ctx, u); err != nil {
			return nil, err
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, newECKey(t))
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := c.client.CreateCertFromOrder(ctx, o, csr, true)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(chain[0])
}

func TestNamesOfEveryKind(t *testing.T) {
	tests := []struct {
		name, challenge string
		names           []string
		serves          []string
		refuses         string
	}{
		{"wildcard", "dns-01", []string{"*.example.com"}, []string{"www.example.com"}, "example.com"},
		{"wildcard and its parent", "dns-01", []string{"example.com", "*.example.com"}, []string{"example.com", "a.example.com"}, "a.b.example.com"},
		{"name by dns-01", "dns-01", []string{"www.example.com"}, []string{"www.example.com"}, "example.com"},
		{"IPv4 by tls-alpn-01", "tls-alpn-01", []string{"192.0.2.1"}, []string{"192.0.2.1"}, "192.0.2.2"},
		{"IPv6 by tls-alpn-01", "tls-alpn-01", []string{"2001:db8::1f"}, []string{"2001:db8::1f"}, "2001:db8::1"},
		{"IPv4 by http-01", "http-01", []string{"192.0.2.1"}, []string{"192.0.2.1"}, "example.com"},
		{"IPv6 by http-01", "http-01", []string{"2001:db8::1f"}, []string{"2001:db8::1f"}, "2001:db8::1"},
		{"address and name", "http-01", []string{"192.0.2.1", "www.example.com"}, []string{"192.0.2.1", "www.example.com"}, "192.0.2.2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				leaf, err := control{server: s, client: newACMEClient(t, s)}.obtain(t.Context(), t, test.challenge, test.names...)
				if err != nil {
					t.Fatalf("%v\n%v", err, s)
				}
				for _, host := range test.serves {
					if err := leaf.VerifyHostname(host); err != nil {
						t.Error(err)
					}
				}
				if leaf.VerifyHostname(test.refuses) == nil {
					t.Errorf("the certificate for %q is good for %s", test.names, test.refuses)
				}
				if got := s.IssuedFor(test.names[0]); len(got) != 1 {
					t.Errorf("IssuedFor(%q): %d certificates, want 1", test.names[0], len(got))
				}
				if net.ParseIP(leaf.Subject.CommonName) != nil {
					t.Errorf("the common name is the address %q", leaf.Subject.CommonName)
				}
			})
		})
	}
}

func TestDNS01Fails(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(s *acmetest.Server)
		typ     string
		detail  string
	}{
		{"without a record", func(s *acmetest.Server) {
			s.SetCNAME("_acme-challenge.example.com", "elsewhere.example.net")
		}, "dns", "NXDOMAIN looking up TXT for elsewhere.example.net"},
		{"with a loop of aliases", func(s *acmetest.Server) {
			s.SetCNAME("_acme-challenge.example.com", "a.example.net")
			s.SetCNAME("a.example.net", "_acme-challenge.example.com")
		}, "dns", "loop"},
		{"with another record", func(*acmetest.Server) {}, "unauthorized", `"wrong"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				test.prepare(s)
				_, err := control{s, newACMEClient(t, s), "wrong"}.obtain(t.Context(), t, "dns-01", "*.example.com")
				var failed *acme.AuthorizationError
				if !errors.As(err, &failed) || len(failed.Errors) != 1 {
					t.Fatalf("got %v, want an AuthorizationError", err)
				}
				var problem *acme.Error
				if !errors.As(failed.Errors[0], &problem) || !strings.HasSuffix(problem.ProblemType, ":"+test.typ) ||
					!strings.Contains(problem.Detail, test.detail) {
					t.Errorf("got %v, want %s with %q", failed.Errors[0], test.typ, test.detail)
				}
			})
		})
	}
}

func TestDNS01FollowsAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		s.SetCNAME("_acme-challenge.www.example.com", "_ACME-challenge.delegated.example.net.")
		client := newACMEClient(t, s)
		o, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("www.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		authz, err := client.GetAuthorization(t.Context(), o.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		challenge := authz.Challenges[slices.IndexFunc(authz.Challenges, func(c *acme.Challenge) bool { return c.Type == "dns-01" })]
		value, err := client.DNS01ChallengeRecord(challenge.Token)
		if err != nil {
			t.Fatal(err)
		}
		s.AddTXT("_acme-challenge.delegated.example.net", value)
		if _, err := client.Accept(t.Context(), challenge); err != nil {
			t.Fatal(err)
		}
		if _, err := client.WaitAuthorization(t.Context(), o.AuthzURLs[0]); err != nil {
			t.Errorf("%v\n%v", err, s)
		}
	})
}

func TestTXTRecords(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	defer s.Close()
	s.AddTXT("_acme-challenge.example.com.", "a")
	s.AddTXT("_ACME-challenge.example.com", "b")
	s.AddTXT("_acme-challenge.example.com", "a")
	if got := s.TXT("_acme-challenge.EXAMPLE.com."); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("records %q, want a and b", got)
	}
	s.RemoveTXT("_acme-challenge.example.com", "a")
	s.RemoveTXT("_acme-challenge.example.com", "c") // not there
	if got := s.TXT("_acme-challenge.example.com"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("records %q, want b", got)
	}
}

func TestChallengesThatFitTheName(t *testing.T) {
	tests := []struct {
		name   string
		offers []string // of the server
		want   []string // nil: the order is refused
	}{
		{"www.example.com", nil, []string{"tls-alpn-01", "http-01", "dns-01"}},
		{"*.example.com", nil, []string{"dns-01"}},
		{"192.0.2.1", nil, []string{"tls-alpn-01", "http-01"}},
		{"www.example.com", []string{"http-01"}, []string{"http-01"}},
		{"*.example.com", []string{"http-01", "tls-alpn-01"}, nil},
		{"192.0.2.1", []string{"dns-01"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name+" of "+strings.Join(test.offers, ","), func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.Challenges = test.offers
			s.StartMemory()
			defer s.Close()
			client := newACMEClient(t, s)
			ids := acme.DomainIDs(test.name)
			if net.ParseIP(test.name) != nil {
				ids = acme.IPIDs(test.name)
			}
			o, err := client.AuthorizeOrder(t.Context(), ids)
			if test.want == nil {
				var problem *acme.Error
				if !errors.As(err, &problem) || !strings.HasSuffix(problem.ProblemType, ":rejectedIdentifier") {
					t.Errorf("got %v, want rejectedIdentifier", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			authz, err := client.GetAuthorization(t.Context(), o.AuthzURLs[0])
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range authz.Challenges {
				got = append(got, c.Type)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("offered %q, want %q", got, test.want)
			}
			if wildcard := strings.HasPrefix(test.name, "*."); authz.Wildcard != wildcard || authz.Identifier.Value != strings.TrimPrefix(test.name, "*.") {
				t.Errorf("authorization for %q, wildcard %t", authz.Identifier.Value, authz.Wildcard)
			}
		})
	}
}

// TestIdentifierMembersAreExact: JSON names are case-sensitive and occur once,
// also within an identifier.
func TestIdentifierMembersAreExact(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	for _, test := range []struct {
		identifier string
		status     int
		problem    string
	}{
		{`{"type":"dns","value":"a.example.com","other":1}`, 201, ""},
		{`{"Type":"dns","value":"a.example.com"}`, 400, "unsupportedIdentifier"},
		{`{"type":"dns","VALUE":"a.example.com"}`, 400, "malformed"},
		{`{"type":"dns","value":"b.example.com","value":"a.example.com"}`, 400, "malformed"},
		{`null`, 400, "malformed"},
	} {
		a := c.do(post{url: c.endpoint("/new-order"), payload: `{"identifiers":[` + test.identifier + `]}`})
		if a.status != test.status || a.problem() != test.problem {
			t.Errorf("%s: %d %s, want %d %s", test.identifier, a.status, a.body, test.status, test.problem)
		}
	}
}
