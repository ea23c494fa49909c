package acmetest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Issues a certificate for a name validated by http-01, with the client of
// golang.org/x/crypto/acme.
func Example() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()

	ctx := context.Background()
	accountKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: accountKey}
	if _, err := client.Register(ctx, &acme.Account{}, acme.AcceptTOS); err != nil {
		log.Fatal(err)
	}

	// The name leads to a handler that answers the challenge.
	ca.Resolve("www.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(r.URL.Path, client.HTTP01ChallengePath(""))
			answer, _ := client.HTTP01ChallengeResponse(token)
			fmt.Fprint(w, answer)
		})})

	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com"))
	if err != nil {
		log.Fatal(err)
	}
	authorization, err := client.GetAuthorization(ctx, order.AuthzURLs[0])
	if err != nil {
		log.Fatal(err)
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type == "http-01" {
			if _, err := client.Accept(ctx, challenge); err != nil {
				log.Fatal(err)
			}
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		log.Fatal(err)
	}

	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	csr, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.example.com"}}, key)
	chain, _, err := client.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		log.Fatal(err)
	}

	leaf, _ := x509.ParseCertificate(chain[0])
	intermediate, _ := x509.ParseCertificate(chain[1])
	pool := x509.NewCertPool()
	pool.AddCert(intermediate)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: "www.example.com", Roots: ca.Roots(), Intermediates: pool})
	fmt.Println("names:", leaf.DNSNames)
	fmt.Println("issuer:", leaf.Issuer.CommonName)
	fmt.Println("verified:", err == nil)
	fmt.Println("orders:", ca.Count(acmetest.NewOrder), "certificates:", len(ca.Issued()))
	// Output:
	// names: [www.example.com]
	// issuer: acmetest Intermediate
	// verified: true
	// orders: 1 certificates: 1
}

// A CA that refuses the first order with a rate limit.
func ExampleServer_Status() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, http.StatusTooManyRequests,
		http.Header{"Retry-After": {"3600"}}, acmetest.Problem{Type: "rateLimited", Detail: "too many orders"})

	ctx := context.Background()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	client := &acme.Client{
		DirectoryURL: ca.URL,
		HTTPClient:   ca.Client(),
		Key:          key,
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 }, // do not retry
	}
	if _, err := client.Register(ctx, &acme.Account{}, acme.AcceptTOS); err != nil {
		log.Fatal(err)
	}
	_, err := client.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com"))
	wait, limited := acme.RateLimit(err)
	fmt.Println(limited, wait)
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs("www.example.com"))
	fmt.Println(order.Status, err)
	// Output:
	// true 1h0m0s
	// pending <nil>
}

// A CA that does not answer. The client's context ends the wait.
func ExampleServer_Stall() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	fault := ca.Stall(acmetest.Match{Endpoint: acmetest.Directory})

	client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := client.Discover(ctx)
	fmt.Println("stalled:", errors.Is(err, context.DeadlineExceeded))

	fault.Lift()
	_, err = client.Discover(context.Background())
	fmt.Println("lifted:", err == nil)
	// Output:
	// stalled: true
	// lifted: true
}
