package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// A complete server. What is here for a CA on this machine is marked; without that
// it is a server on the internet, with certificates from Let's Encrypt.
func Example() {
	ca := acmetest.NewMemoryServer() // here
	defer ca.Close()

	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory), // here; else certmgr.DirCache("/var/lib/certs")
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}, // here
	}
	defer m.Close()
	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: m.TLSConfig()}) // here

	ctx := context.Background()
	if err := m.Start(ctx); err != nil { // have certificates before the first visitor
		log.Fatal(err)
	}
	if err := m.Obtain(ctx, "www.example.com"); err != nil { // here, to be sure that there is one
		log.Fatal(err)
	}
	server := &http.Server{TLSConfig: m.TLSConfig(), Handler: http.NotFoundHandler(), ErrorLog: m.ErrorLog(nil)}
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // here; else ":443"
	if err != nil {
		log.Fatal(err)
	}
	go server.ServeTLS(listener, "", "")

	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{ServerName: "www.example.com", RootCAs: ca.Roots()})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.ConnectionState().PeerCertificates[0].DNSNames)
	// Output: [www.example.com]
}
