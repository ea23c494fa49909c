package acmeclient

import (
	"crypto/rand"
	"crypto/x509"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// The certificate request is posted, and nothing else is asked.
func TestPostCSR(t *testing.T) {
	server, ca := renewalCA(t, true)
	_, client := issueFor(t, server, ca, newKey(t))
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	server.ForgetRequests()
	status, accepted, err := PostCSR(t.Context(), client, order, csr)
	if p, ok := Problem(err); !ok || kindOf(p.ProblemType) != "ordernotready" || status != "" || accepted {
		t.Errorf("an order that is %s: status %q, %v", order.Status, status, err)
	}
	if n := server.Count(acmetest.Finalize); n != 1 || len(server.Requests()) != 1 {
		t.Errorf("%d of the requests are for it:\n%v", n, server)
	}
}
