package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Bodies for acmetest.Respond.
const (
	pendingOrder = `{"status":"pending"}`
	badNonce     = `{"type":"urn:ietf:params:acme:error:badNonce","detail":"the reason"}`
)

// site is a fake CA with an account and a pending order.
type site struct {
	*acmetest.Server
	key          crypto.Signer
	kid          acme.KeyID     // of the account
	order, authz string         // URLs
	directory    acme.Directory // as the CA sends it
	before       map[acmetest.Endpoint]int
}

// newSite returns a site at a CA in memory.
func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteAt(t, acmetest.NewMemoryServer())
}

// newSiteAt makes the account and the order, with a client that is not under
// test.
func newSiteAt(t *testing.T, server *acmetest.Server) *site {
	t.Helper()
	t.Cleanup(server.Close)
	s := &site{Server: server, key: newKey(t), before: map[acmetest.Endpoint]int{}}
	c := &acme.Client{DirectoryURL: s.URL, HTTPClient: s.Client(), Key: s.key}
	account, err := c.Register(t.Context(), &acme.Account{}, acme.AcceptTOS)
	if err != nil {
		t.Fatal(err)
	}
	order, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if s.directory, err = c.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.kid, s.order, s.authz = acme.KeyID(account.URI), order.URI, order.AuthzURLs[0]
	for _, r := range s.Requests() {
		s.before[r.Endpoint]++
	}
	return s
}

// expect checks how many requests to an endpoint, of any method, came in since
// the site was created.
func (s *site) expect(t *testing.T, e acmetest.Endpoint, want int) {
	t.Helper()
	if got := s.Count(e) - s.before[e]; got != want {
		t.Errorf("%s: %d requests, want %d\n%v", e, got, want, s)
	}
}

// at matches all requests to an endpoint.
func at(e acmetest.Endpoint) acmetest.Match { return acmetest.Match{Endpoint: e} }

// ca returns the CA under test, connected to the site by the user's client.
func (s *site) ca(user *http.Client) *CA {
	return New(Config{DirectoryURL: s.URL, HTTPClient: user})
}

// client returns a client for one attempt.
func (s *site) client(ca *CA) *acme.Client { return ca.Client(s.key, s.kid) }

// getOrder is an attempt: the directory, a nonce, the order.
func (s *site) getOrder(t *testing.T, ca *CA) error {
	t.Helper()
	_, err := s.client(ca).GetOrder(t.Context(), s.order)
	return err
}

// discover is an attempt that needs the directory only.
func (s *site) discover(t *testing.T, ca *CA) error {
	t.Helper()
	_, err := s.client(ca).Discover(t.Context())
	return err
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// through returns a user's client that sends requests for url through f, which
// gets the transport that reaches the CA, and all others straight to the CA.
func (s *site) through(url string, f func(next http.RoundTripper, req *http.Request) (*http.Response, error)) *http.Client {
	next := s.Client().Transport
	return &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.URL.String() == url {
			return f(next, req)
		}
		return next.RoundTrip(req)
	})}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
