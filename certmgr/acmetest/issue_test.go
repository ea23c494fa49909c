package acmetest_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// responder answers the challenges of one x/crypto client.
type responder struct {
	mu    sync.Mutex
	certs map[string]*tls.Certificate // by host
	files map[string]string           // by path
}

func (r *responder) tlsConfig() *tls.Config {
	return &tls.Config{NextProtos: []string{acme.ALPNProto}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.certs[hello.ServerName], nil
	}}
}

func (r *responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if body, ok := r.files[req.URL.Path]; ok {
		_, _ = w.Write([]byte(body))
		return
	}
	http.NotFound(w, req)
}

func (r *responder) prepare(t *testing.T, client *acme.Client, c *acme.Challenge, host string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Type == "http-01" {
		body, err := client.HTTP01ChallengeResponse(c.Token)
		if err != nil {
			t.Fatal(err)
		}
		r.files = map[string]string{client.HTTP01ChallengePath(c.Token): body}
		return
	}
	cert, err := client.TLSALPN01ChallengeCert(c.Token, host)
	if err != nil {
		t.Fatal(err)
	}
	r.certs = map[string]*tls.Certificate{host: &cert}
}

func newACMEClient(t *testing.T, s *acmetest.Server) *acme.Client {
	t.Helper()
	client := &acme.Client{Key: newECKey(t), DirectoryURL: s.URL, HTTPClient: s.Client(), UserAgent: "acmetest-test"}
	if _, err := client.Register(t.Context(), &acme.Account{Contact: []string{"mailto:a@example.com"}}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return client
}

// obtain runs the whole protocol with x/crypto/acme.
func obtain(ctx context.Context, t *testing.T, client *acme.Client, r *responder, challengeType, host string,
	options ...acme.OrderOption) ([][]byte, crypto.Signer, error) {
	t.Helper()
	o, err := client.AuthorizeOrder(ctx, acme.DomainIDs(host), options...)
	if err != nil {
		return nil, nil, err
	}
	for _, u := range o.AuthzURLs {
		authz, err := client.GetAuthorization(ctx, u)
		if err != nil {
			return nil, nil, err
		}
		if authz.Status == acme.StatusValid {
			continue
		}
		for _, c := range authz.Challenges {
			if c.Type == challengeType {
				r.prepare(t, client, c, host)
				if _, err := client.Accept(ctx, c); err != nil {
					return nil, nil, err
				}
			}
		}
		if _, err := client.WaitAuthorization(ctx, u); err != nil {
			return nil, nil, err
		}
	}
	if o, err = client.WaitOrder(ctx, o.URI); err != nil {
		return nil, nil, err
	}
	key := newECKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, key)
	if err != nil {
		return nil, nil, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, o, der, true)
	return chain, key, err
}

// check verifies a chain and that it is for a key.
func check(t *testing.T, s *acmetest.Server, chain [][]byte, key crypto.Signer, host string) *x509.Certificate {
	t.Helper()
	leaf, err := verify(t, chain, s.Roots(), host)
	if err != nil {
		t.Error(err)
	}
	if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
		t.Error("the leaf is for another key")
	}
	return leaf
}

func TestIssueInMemory(t *testing.T) {
	for _, challengeType := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challengeType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				r := &responder{}
				s.Resolve("www.example.com", acmetest.Target{TLSConfig: r.tlsConfig(), HTTPHandler: r})
				client := newACMEClient(t, s)
				begin := time.Now()
				chain, key, err := obtain(t.Context(), t, client, r, challengeType, "www.example.com")
				if err != nil {
					t.Fatalf("%v\n%v", err, s)
				}
				leaf := check(t, s, chain, key, "www.example.com")
				if got, want := leaf.NotBefore, begin.Add(-time.Hour); leaf.NotBefore.Sub(want).Abs() > time.Minute {
					t.Errorf("NotBefore %v, want about %v", got, want)
				}
				if got, want := leaf.NotAfter.Sub(leaf.NotBefore), 90*24*time.Hour-time.Second; got != want {
					t.Errorf("lifetime %v, want %v", got, want)
				}
			})
		})
	}
}

func TestIssueOverLoopback(t *testing.T) {
	for _, challengeType := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challengeType, func(t *testing.T) {
			s := acmetest.NewServer()
			defer s.Close()
			r := &responder{}
			web := httptest.NewServer(r)
			defer web.Close()
			secure := httptest.NewUnstartedServer(r)
			secure.TLS = r.tlsConfig()
			secure.StartTLS()
			defer secure.Close()
			s.Resolve("*.example.com", acmetest.Target{
				TLSAddr:  secure.Listener.Addr().String(),
				HTTPAddr: web.Listener.Addr().String(),
			})
			client := newACMEClient(t, s)
			chain, key, err := obtain(t.Context(), t, client, r, challengeType, "www.example.com")
			if err != nil {
				t.Fatalf("%v\n%v", err, s)
			}
			check(t, s, chain, key, "www.example.com")
			if err := client.RevokeCert(t.Context(), nil, chain[0], acme.CRLReasonSuperseded); err != nil {
				t.Error(err)
			}
			if len(s.Revoked()) != 1 {
				t.Error("the revocation was not recorded")
			}
		})
	}
}

func TestObservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		r := &responder{}
		s.Resolve("*", acmetest.Target{HTTPHandler: r})
		client := newACMEClient(t, s)
		if _, _, err := obtain(t.Context(), t, client, r, "http-01", "a.example.com"); err != nil {
			t.Fatal(err)
		}
		if got := s.Count(acmetest.NewOrder); got != 1 {
			t.Errorf("%d newOrder requests", got)
		}
		if got := s.CountHost(acmetest.Finalize, "A.example.com"); got != 1 {
			t.Errorf("%d finalize requests for the host", got)
		}
		if got := s.CountHost(acmetest.Any, "b.example.com"); got != 0 {
			t.Errorf("%d requests for a foreign host", got)
		}
		if got := len(s.Requests()); got != s.Count(acmetest.Any) || got < 7 {
			t.Errorf("%d requests in the log", got)
		}
		last := s.Requests()[s.Count(acmetest.Any)-1]
		if last.Endpoint != acmetest.Certificate || last.Host != "a.example.com" || last.Status != 200 ||
			!strings.HasPrefix(last.UserAgent, "acmetest-test") ||
			last.Account != s.Accounts()[0].URL {
			t.Errorf("last request: %+v", last)
		}
		if len(s.Issued()) != 1 || len(s.IssuedFor("a.example.com")) != 1 || len(s.IssuedFor("b.example.com")) != 0 {
			t.Error("issued certificates are wrong")
		}
		if got := s.CSRsFor("a.example.com"); len(got) != 1 || len(got[0].DNSNames) != 1 {
			t.Errorf("CSRs %v", got)
		}
		account := s.Accounts()[0]
		want, err := acme.JWKThumbprint(client.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if len(account.Contact) != 1 || account.Status != "valid" || account.Thumbprint != want {
			t.Errorf("account %+v", account)
		}
		if got := s.Authorizations("a.example.com"); len(got) != 1 || got[0] != "valid" {
			t.Errorf("authorizations %v", got)
		}
		if s.InFlight() != 0 {
			t.Errorf("%d requests in flight", s.InFlight())
		}
		if dump := s.String(); !strings.Contains(dump, "newOrder") || !strings.Contains(dump, "a.example.com") {
			t.Errorf("dump without content: %s", dump)
		}
	})
}

func TestReuseAuthorizations(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := acmetest.NewUnstartedServer()
			s.ReuseAuthorizations = reuse
			s.StartMemory()
			defer s.Close()
			r := &responder{}
			s.Resolve("*", acmetest.Target{TLSConfig: r.tlsConfig()})
			client := newACMEClient(t, s)
			for range 2 {
				if _, _, err := obtain(t.Context(), t, client, r, "tls-alpn-01", "a.example.com"); err != nil {
					t.Fatalf("%v\n%v", err, s)
				}
			}
			want := map[bool]int{false: 2, true: 1}[reuse]
			if got := len(s.Authorizations("a.example.com")); got != want {
				t.Errorf("reuse %v: %d authorizations, want %d", reuse, got, want)
			}
		})
	}
}

// TestConcurrentClients is for the race detector.
func TestConcurrentClients(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		s.BadNonceRate(0.05)
		var wg sync.WaitGroup
		for i := range 8 {
			host := fmt.Sprintf("host%d.example.com", i)
			key := newECKey(t)
			wg.Go(func() {
				client := &acme.Client{Key: key, DirectoryURL: s.URL, HTTPClient: s.Client()}
				client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return time.Millisecond }
				if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
					t.Error(err)
					return
				}
				r := &responder{}
				s.Resolve(host, acmetest.Target{HTTPHandler: r, TLSConfig: r.tlsConfig()})
				if _, _, err := obtain(t.Context(), t, client, r, "tls-alpn-01", host); err != nil {
					t.Errorf("%s: %v", host, err)
				}
				_ = s.String()
			})
		}
		wg.Wait()
		if got := len(s.Issued()); got != 8 {
			t.Errorf("%d certificates\n%v", got, s)
		}
	})
}
