package acmetest_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// A server tested end to end: the CA validates it, and a real TLS client
// verifies its certificate.
func Example_server() {
	ca := acmetest.NewServer()
	defer ca.Close()

	// The server under test, as in production except for the CA.
	manager := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer manager.Close()
	server := &http.Server{
		TLSConfig: manager.TLSConfig(),
		ErrorLog:  manager.ErrorLog(nil),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "hello from ", r.Host)
		}),
	}
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.ServeTLS(listener, "", "")

	// Resolve www.example.com for the CA and for visitors.
	ca.Resolve("www.example.com", acmetest.Target{TLSAddr: listener.Addr().String()})

	res, err := ca.Visitor().Get("https://www.example.com/")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Printf("%s: %s\n", res.Status, body)
	fmt.Println("issued by:", res.TLS.PeerCertificates[0].Issuer.CommonName)
	fmt.Println("orders:", ca.Count(acmetest.NewOrder))
	// Output:
	// 200 OK: hello from www.example.com
	// issued by: acmetest Intermediate
	// orders: 1
}
