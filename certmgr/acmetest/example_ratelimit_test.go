package acmetest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// A CA with Let's Encrypt's limits. A program that loses its certificates at
// every start gets five for the same names; the sixth order is refused, and the
// error says until when.
func Example_rateLimit() {
	ca := acmetest.NewUnstartedServer()
	ca.RateLimits = acmetest.LetsEncryptRateLimits()
	ca.StartMemory()
	defer ca.Close()
	manager := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer manager.Close()
	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})

	for n := 1; n <= 6; n++ {
		err := manager.Renew(context.Background(), "www.example.com")
		if err == nil {
			fmt.Println("certificate", n)
			continue
		}
		reason, ok := errors.AsType[*acme.Error](err)
		if !ok {
			log.Fatal(err)
		}
		fmt.Println("refused:", reason.StatusCode, reason.ProblemType)
		what, until, _ := strings.Cut(reason.Detail, ", retry after ")
		retry, err := time.Parse("2006-01-02 15:04:05 MST", until)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(what)
		fmt.Println("retry after", time.Until(retry).Round(time.Hour))
	}
	fmt.Println("issued:", len(ca.Issued()))
	// Output:
	// certificate 1
	// certificate 2
	// certificate 3
	// certificate 4
	// certificate 5
	// refused: 429 urn:ietf:params:acme:error:rateLimited
	// too many certificates for exactly the names www.example.com: the limit CertificatesPerSet is 5 and one more each 33h36m0s
	// retry after 34h0m0s
	// issued: 5
}
