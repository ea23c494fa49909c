package acmeclient

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestCertID(t *testing.T) {
	key := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name, keyID, serial, want string
	}{
		// RFC 9773, section 4.1.
		{"of the RFC", "69885b6b87464041e1b37b847ba0ae2cde01c8d4", "87654321", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"},
		{"first bit not set", "01", "7f", "AQ.fw"},
		{"first bit set", "01", "80", "AQ.AIA"},
		{"no key identifier", "", "01", ""},
	}
	for _, tt := range tests {
		serial, _ := new(big.Int).SetString(tt.serial, 16)
		leaf := &x509.Certificate{AuthorityKeyId: key(tt.keyID), SerialNumber: serial}
		if got := CertID(leaf); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// renewalCA is a CA in memory, with or without renewal information, and its
// clients.
func renewalCA(t *testing.T, offered bool) (*acmetest.Server, *CA) {
	t.Helper()
	server := acmetest.NewUnstartedServer()
	server.NoRenewalInfo = !offered
	server.StartMemory()
	t.Cleanup(server.Close)
	return server, New(Config{DirectoryURL: server.URL, HTTPClient: server.Client()})
}

// issueFor returns a certificate and the client that ordered it.
func issueFor(t *testing.T, server *acmetest.Server, ca *CA, key crypto.Signer) (*x509.Certificate, *acme.Client) {
	t.Helper()
	client := ca.Client(key, "")
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	authz, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range authz.Challenges {
		if c.Type != "dns-01" {
			continue
		}
		value, err := client.DNS01ChallengeRecord(c.Token)
		if err != nil {
			t.Fatal(err)
		}
		server.AddTXT("_acme-challenge.a.example.com", value)
		if _, err := client.Accept(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.WaitOrder(t.Context(), order.URI); err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.CreateCertFromOrder(t.Context(), order, csr, true); err != nil {
		t.Fatal(err)
	}
	issued := server.Issued()
	return issued[len(issued)-1], client
}

func TestRenewalInfo(t *testing.T) {
	server, ca := renewalCA(t, true)
	leaf, _ := issueFor(t, server, ca, newKey(t))
	want := acmetest.RenewalWindow{
		Start:          time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		End:            time.Date(2030, 1, 3, 3, 4, 5, 0, time.UTC),
		ExplanationURL: "https://ca.example/why",
	}
	server.SetRenewalWindow(leaf, want)
	server.RetryAfter(acmetest.RenewalInfo, "7200")
	info, err := ca.RenewalInfo(t.Context(), CertID(leaf))
	if err != nil {
		t.Fatal(err)
	}
	if !info.Start.Equal(want.Start) || !info.End.Equal(want.End) || info.ExplanationURL != want.ExplanationURL || info.RetryAfter != 2*time.Hour {
		t.Errorf("got %+v, want %+v and 2h", info, want)
	}
}

func TestRenewalInfoErrors(t *testing.T) {
	info := at(acmetest.RenewalInfo)
	tests := []struct {
		name      string
		fault     func(*acmetest.Server)
		temporary bool
		says      string
	}{
		{"unknown certificate", func(*acmetest.Server) {}, false, "404"},
		{"server error", func(s *acmetest.Server) { s.Status(info, 500, nil, acmetest.Problem{Detail: "ouch"}) }, true, "ouch"},
		{"rate limit", func(s *acmetest.Server) { s.Status(info, 429, nil, acmetest.Problem{}) }, true, "429"},
		{"dropped", func(s *acmetest.Server) { s.Drop(info) }, true, "EOF"},
		{"garbage", func(s *acmetest.Server) { s.Garbage(info) }, false, "invalid character"},
		{"endless", func(s *acmetest.Server) { s.EndlessBody(info) }, true, "larger than"},
		{"no window", func(s *acmetest.Server) { s.Respond(info, 200, nil, "{}") }, false, "is invalid"},
		{"null", func(s *acmetest.Server) { s.Respond(info, 200, nil, "null") }, false, "is invalid"},
		{"no time", func(s *acmetest.Server) {
			s.Respond(info, 200, nil, `{"suggestedWindow":{"start":"soon","end":"later"}}`)
		}, false, "soon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, ca := renewalCA(t, true)
				tt.fault(server)
				_, err := ca.RenewalInfo(t.Context(), "AQ.AQ")
				if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want one line with %q", err, tt.says)
				}
				if IsTemporary(err) != tt.temporary {
					t.Errorf("IsTemporary(%v) = %t", err, !tt.temporary)
				}
			})
		})
	}
}

func TestNoRenewalInfo(t *testing.T) {
	_, ca := renewalCA(t, false)
	if _, err := ca.RenewalInfo(t.Context(), "AQ.AQ"); !errors.Is(err, ErrNoRenewalInfo) || IsTemporary(err) {
		t.Errorf("got %v, want ErrNoRenewalInfo", err)
	}
}

// A directory that is forgotten while it is fetched is no CA without renewal
// information: the question failed for the moment, and its window is kept.
func TestForgetDuringAQuestionIsTemporary(t *testing.T) {
	server, _ := renewalCA(t, true)
	s := &site{Server: server}
	var ca *CA
	ca = New(Config{DirectoryURL: server.URL, HTTPClient: s.through(server.URL, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		ca.Forget() // what an attempt does that meets a 404
		return next.RoundTrip(req)
	})})
	if _, err := ca.RenewalInfo(t.Context(), "a.b"); !IsTemporary(err) {
		t.Errorf("got %v, want a temporary error", err)
	}
}
