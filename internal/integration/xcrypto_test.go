package integration

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// xcryptoSite is a client of golang.org/x/crypto/acme with the servers that
// answer its challenges.
type xcryptoSite struct {
	*acme.Client
	challengeCerts
	ca *clientsCA
}

// newXcryptoSite starts the CA and creates an account.
func newXcryptoSite(t *testing.T, ca *clientsCA) *xcryptoSite {
	t.Helper()
	ca.start()
	s := unregisteredXcryptoSite(t, ca)
	if _, err := s.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return s
}

func unregisteredXcryptoSite(t *testing.T, ca *clientsCA) *xcryptoSite {
	t.Helper()
	if !ca.memory {
		// For a time in the past the client polls again at once. Otherwise it
		// waits for at least a second, which costs nothing only in a bubble.
		ca.RetryAfter(acmetest.Any, "-1")
		ca.RetryAfter(acmetest.RenewalInfo, "21600")
	}
	return &xcryptoSite{
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: newECKey(t)},
		ca:     ca,
	}
}

// present prepares a challenge and returns a function that undoes it.
func (s *xcryptoSite) present(t *testing.T, identifier string, c *acme.Challenge) (cleanUp func()) {
	t.Helper()
	switch c.Type {
	case "tls-alpn-01":
		cert, err := s.TLSALPN01ChallengeCert(c.Token, identifier)
		if err != nil {
			t.Fatal(err)
		}
		s.setCert(identifier, &cert)
		return func() { s.setCert(identifier, nil) }
	case "dns-01":
		value, err := s.DNS01ChallengeRecord(c.Token)
		if err != nil {
			t.Fatal(err)
		}
		name := "_acme-challenge." + identifier
		s.ca.AddTXT(name, value)
		return func() { s.ca.RemoveTXT(name, value) }
	}
	return func() {}
}

// ServeHTTP answers http-01 for every token.
func (s *xcryptoSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, token, _ := strings.Cut(r.URL.Path, "/.well-known/acme-challenge/")
	answer, err := s.HTTP01ChallengeResponse(token)
	if err != nil || r.URL.Path != s.HTTP01ChallengePath(token) {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, answer)
}

// identifiers returns names and addresses in the client's form.
func identifiers(names []string) []acme.AuthzID {
	var ids []acme.AuthzID
	for _, name := range names {
		if net.ParseIP(name) != nil {
			ids = append(ids, acme.IPIDs(name)...)
		} else {
			ids = append(ids, acme.DomainIDs(name)...)
		}
	}
	return ids
}

// authorize places an order and solves one challenge of each authorization.
func (s *xcryptoSite) authorize(t *testing.T, challenge string, names ...string) (*acme.Order, error) {
	t.Helper()
	ctx := t.Context()
	order, err := s.AuthorizeOrder(ctx, identifiers(names))
	if err != nil {
		return nil, err
	}
	for _, url := range order.AuthzURLs {
		authorization, err := s.GetAuthorization(ctx, url)
		if err != nil {
			return nil, err
		}
		for _, c := range authorization.Challenges {
			if c.Type != challenge || authorization.Status != acme.StatusPending {
				continue
			}
			defer s.present(t, authorization.Identifier.Value, c)()
			if _, err := s.Accept(ctx, c); err != nil {
				return nil, err
			}
		}
		if _, err := s.WaitAuthorization(ctx, url); err != nil {
			return nil, err
		}
	}
	return s.WaitOrder(ctx, order.URI)
}

// issue obtains a certificate for the key, and returns its leaf and URL.
func (s *xcryptoSite) issue(t *testing.T, key any, challenge string, names ...string) (*x509.Certificate, string) {
	t.Helper()
	order, err := s.authorize(t, challenge, names...)
	if err != nil {
		t.Fatal(err)
	}
	request := &x509.CertificateRequest{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		} else {
			request.DNSNames = append(request.DNSNames, name)
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, url, err := s.CreateCertFromOrder(t.Context(), order, csr, true)
	if err != nil {
		t.Fatal(err)
	}
	return mustVerify(t, chain, s.ca.Roots(), names...), url
}

// wantXcryptoProblem checks that an error is the given problem of the CA.
func wantXcryptoProblem(t *testing.T, err error, status int, typ string) {
	t.Helper()
	var problem *acme.Error
	if !errors.As(err, &problem) {
		t.Fatalf("error %v, want a problem of type %s", err, typ)
	}
	if want := "urn:ietf:params:acme:error:" + typ; problem.ProblemType != want || problem.StatusCode != status {
		t.Fatalf("%v, want %d %s", problem, status, want)
	}
}

func TestXcryptoIssues(t *testing.T) {
	for _, test := range issueCases {
		t.Run(test.challenge+" "+test.names[0], func(t *testing.T) {
			inBothModes(t, func(t *testing.T, ca *clientsCA) {
				s := newXcryptoSite(t, ca)
				if test.challenge != "dns-01" {
					for _, name := range test.names {
						ca.point(t, name, s.tlsConfig(), s)
					}
				}
				leaf, _ := s.issue(t, newECKey(t), test.challenge, test.names...)
				if n := len(leaf.DNSNames) + len(leaf.IPAddresses); n != len(test.names) {
					t.Errorf("the certificate is for %v and %v, want %v", leaf.DNSNames, leaf.IPAddresses, test.names)
				}
			})
		})
	}
}

func TestXcryptoGetsTheReasonOfAFailedValidation(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newXcryptoSite(t, ca)
		_, err := s.authorize(t, "tls-alpn-01", "nowhere.example.com")
		var failed *acme.AuthorizationError
		if !errors.As(err, &failed) || len(failed.Errors) != 1 {
			t.Fatalf("error %v, want that of one challenge", err)
		}
		wantXcryptoProblem(t, failed.Errors[0], http.StatusBadRequest, "dns")
		_, err = s.WaitOrder(t.Context(), ca.lastOrder(t).URL)
		var invalid *acme.OrderError
		if !errors.As(err, &invalid) || invalid.Status != acme.StatusInvalid {
			t.Errorf("error %v, want that the order is invalid", err)
		}
	})
}

func TestXcryptoOutlivesBadNonces(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		ca.BadNonceRate(0.2)
		s := newXcryptoSite(t, ca)
		ca.point(t, "www.example.com", nil, s)
		for range 5 {
			s.issue(t, newECKey(t), "http-01", "www.example.com")
		}
		ca.wantBadNonces(t)
	})
}

func TestXcryptoWaitsWhileAnOrderIsProcessed(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		ca.Processing = time.Minute
		ca.RetryAfter(acmetest.Order, "40")
		s := newXcryptoSite(t, ca)
		began := time.Now()
		s.issue(t, newECKey(t), "dns-01", "www.example.com")
		// The client requests the order at once, and again after 40 s and 80 s.
		// Before that it may have waited for the authorization.
		if took := time.Since(began); took < 80*time.Second || took > 85*time.Second {
			t.Errorf("issued after %v, want 80 s", took)
		}
	})
}

// This client has its own retry rules: for 429 it waits as long as Retry-After
// says.
func TestXcryptoObeysRetryAfterOfARateLimit(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		s := newXcryptoSite(t, ca)
		ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"3600"}}, acmetest.Problem{Type: "rateLimited"})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if _, err := s.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Hour || took > time.Hour+time.Minute {
			t.Errorf("the order was placed after %v, want an hour", took)
		}
	})
}
