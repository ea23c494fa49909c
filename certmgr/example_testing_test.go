package certmgr_test

import (
	"crypto/tls"
	"fmt"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// A test with the fake CA, without a socket: what the server under test serves, to
// whom, and how many orders that takes.
func Example_testing() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("*.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer m.Close()
	ca.Resolve("*.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})

	for _, host := range []string{"www.example.com", "www.example.com", "www.example.org"} {
		cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		if err != nil {
			fmt.Println(host, "has no certificate")
			continue
		}
		fmt.Println(host, "has one of", cert.Leaf.Issuer.CommonName)
	}
	fmt.Println("orders:", ca.Count(acmetest.NewOrder))
	// Output:
	// www.example.com has one of acmetest Intermediate
	// www.example.com has one of acmetest Intermediate
	// www.example.org has no certificate
	// orders: 1
}
