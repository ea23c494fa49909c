package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// acmezSite is a client of acmez with its account and the servers that answer
// its challenges.
type acmezSite struct {
	*acmez.Client
	challengeCerts
	ca      *clientsCA
	account acme.Account

	mu      sync.Mutex        // guards answers
	answers map[string]string // to http-01, by path
}

// newAcmezSite starts the CA and creates an account. The client solves
// challenges of these types.
func newAcmezSite(t *testing.T, ca *clientsCA, challenges ...string) *acmezSite {
	t.Helper()
	ca.start()
	s := unregisteredAcmezSite(t, ca, challenges...)
	account, err := s.NewAccount(t.Context(), s.account)
	if err != nil {
		t.Fatal(err)
	}
	s.account = account
	return s
}

func unregisteredAcmezSite(t *testing.T, ca *clientsCA, challenges ...string) *acmezSite {
	t.Helper()
	s := &acmezSite{
		Client: &acmez.Client{
			Client: &acme.Client{
				Directory:    ca.directory,
				HTTPClient:   ca.Client(),
				PollInterval: 10 * time.Millisecond,
			},
			ChallengeSolvers: make(map[string]acmez.Solver),
		},
		ca:      ca,
		account: acme.Account{PrivateKey: newECKey(t), TermsOfServiceAgreed: true},
		answers: make(map[string]string),
	}
	for _, typ := range challenges {
		s.ChallengeSolvers[typ] = s
	}
	return s
}

// Present implements [acmez.Solver].
func (s *acmezSite) Present(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.Type {
	case acme.ChallengeTypeTLSALPN01:
		cert, err := acmez.TLSALPN01ChallengeCert(c)
		if err != nil {
			return err
		}
		s.setCert(c.Identifier.Value, cert)
	case acme.ChallengeTypeHTTP01:
		s.answers[c.HTTP01ResourcePath()] = c.KeyAuthorization
	case acme.ChallengeTypeDNS01:
		s.ca.AddTXT(c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	}
	return nil
}

// CleanUp implements [acmez.Solver].
func (s *acmezSite) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.Type {
	case acme.ChallengeTypeTLSALPN01:
		s.setCert(c.Identifier.Value, nil)
	case acme.ChallengeTypeHTTP01:
		delete(s.answers, c.HTTP01ResourcePath())
	case acme.ChallengeTypeDNS01:
		s.ca.RemoveTXT(c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	}
	return nil
}

func (s *acmezSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, ok := s.answers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, answer)
}

// params returns an order for these names, with a new key.
func (s *acmezSite) params(t *testing.T, names ...string) acmez.OrderParameters {
	t.Helper()
	csr, err := acmez.NewCSR(newECKey(t), names)
	if err != nil {
		t.Fatal(err)
	}
	params, err := acmez.OrderParametersFromCSR(s.account, csr)
	if err != nil {
		t.Fatal(err)
	}
	return params
}

// obtain orders a certificate and returns its chains. acmez requests the
// renewal information of each by itself.
func (s *acmezSite) obtain(t *testing.T, params acmez.OrderParameters) [][][]byte {
	t.Helper()
	chains, err := s.ObtainCertificate(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	var ders [][][]byte
	for _, chain := range chains {
		if chain.RenewalInfo == nil != s.ca.NoRenewalInfo || !s.ca.NoRenewalInfo && !chain.RenewalInfo.HasWindow() {
			t.Errorf("%s came with the renewal information %+v", chain.URL, chain.RenewalInfo)
		}
		ders = append(ders, parseChain(t, chain.ChainPEM))
	}
	return ders
}

// wantAcmezProblem checks that an error is the given problem of the CA.
func wantAcmezProblem(t *testing.T, err error, status int, typ string) acme.Problem {
	t.Helper()
	var problem acme.Problem
	if !errors.As(err, &problem) {
		t.Fatalf("error %v, want a problem of type %s", err, typ)
	}
	if want := acme.ProblemTypeNamespace + typ; problem.Type != want || problem.Status != status {
		t.Fatalf("%d %s (%s), want %d %s", problem.Status, problem.Type, problem.Detail, status, want)
	}
	return problem
}

func TestAcmezIssues(t *testing.T) {
	for _, test := range issueCases {
		t.Run(test.challenge+" "+test.names[0], func(t *testing.T) {
			inBothModes(t, func(t *testing.T, ca *clientsCA) {
				s := newAcmezSite(t, ca, test.challenge)
				if test.challenge != "dns-01" {
					for _, name := range test.names {
						ca.point(t, name, s.tlsConfig(), s)
					}
				}
				chains := s.obtain(t, s.params(t, test.names...))
				if len(chains) != 1 {
					t.Fatalf("%d chains, want 1", len(chains))
				}
				leaf := mustVerify(t, chains[0], ca.Roots(), test.names...)
				if n := len(leaf.DNSNames) + len(leaf.IPAddresses); n != len(test.names) {
					t.Errorf("the certificate is for %v and %v, want %v", leaf.DNSNames, leaf.IPAddresses, test.names)
				}
				for _, name := range []string{"dns.example.com", "example.com", "xn--bcher-kva.example"} {
					if left := ca.TXT("_acme-challenge." + name); len(left) > 0 {
						t.Errorf("TXT records left at %s: %q", name, left)
					}
				}
			})
		})
	}
}

func TestAcmezTriesAnotherChallengeAfterAFailure(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		types := []string{"tls-alpn-01", "http-01"}
		s := newAcmezSite(t, ca, types...)
		ca.point(t, "www.example.com", s.tlsConfig(), s)
		// acmez prefers a type that succeeded before, and any at first. If it
		// does not prefer the type that fails at first, it prefers the other.
		for _, typ := range types {
			fault := ca.FailValidation("www.example.com", typ, acmetest.Problem{Type: "connection"})
			mustVerify(t, s.obtain(t, s.params(t, "www.example.com"))[0], ca.Roots(), "www.example.com")
			fault.Lift()
		}
		failed := 0
		for _, o := range ca.Orders() {
			if o.Status == acme.StatusInvalid {
				failed++
			}
		}
		if failed == 0 {
			t.Error("no order failed: there was nothing to try again")
		}
	})
}

func TestAcmezGetsTheReasonOfAFailedValidation(t *testing.T) {
	inBothModes(t, func(t *testing.T, ca *clientsCA) {
		s := newAcmezSite(t, ca, "http-01")
		s.wantFailure(t, "nowhere.example.com", http.StatusBadRequest, "dns")
		ca.point(t, "silent.example.com", nil, http.NotFoundHandler())
		s.wantFailure(t, "silent.example.com", http.StatusForbidden, "unauthorized")
		if o := ca.lastOrder(t); o.Status != acme.StatusInvalid {
			t.Errorf("the order is %s", o.Status)
		}
	})
}

// wantFailure orders a certificate and checks that the CA refuses it with the
// given problem.
func (s *acmezSite) wantFailure(t *testing.T, name string, status int, typ string) {
	t.Helper()
	_, err := s.ObtainCertificate(t.Context(), s.params(t, name))
	wantAcmezProblem(t, err, status, typ)
}

func TestAcmezOutlivesBadNonces(t *testing.T) {
	inMemory(t, func(t *testing.T, ca *clientsCA) {
		ca.BadNonceRate(0.2)
		s := newAcmezSite(t, ca, "http-01")
		ca.point(t, "www.example.com", nil, s)
		for range 5 {
			mustVerify(t, s.obtain(t, s.params(t, "www.example.com"))[0], ca.Roots(), "www.example.com")
		}
		ca.wantBadNonces(t)
	})
}

func TestAcmezWaitsWhileAnOrderIsProcessed(t *testing.T) {
	for _, test := range []struct {
		name, retryAfter string
		atLeast, atMost  time.Duration
	}{
		{"without Retry-After", "", time.Minute, 65 * time.Second},
		{"with Retry-After", "40", 80 * time.Second, 85 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, ca *clientsCA) {
				ca.Processing = time.Minute
				ca.RetryAfter(acmetest.Order, test.retryAfter)
				ca.RetryAfter(acmetest.Finalize, test.retryAfter)
				s := newAcmezSite(t, ca, "dns-01")
				s.PollInterval = time.Second
				began := time.Now()
				mustVerify(t, s.obtain(t, s.params(t, "www.example.com"))[0], ca.Roots(), "www.example.com")
				if took := time.Since(began); took < test.atLeast || took > test.atMost {
					t.Errorf("issued after %v, want %v to %v", took, test.atLeast, test.atMost)
				}
			})
		})
	}
}
