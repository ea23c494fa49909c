package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/acme"
	old "golang.org/x/crypto/acme/autocert"

	autocert "github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const demoHost = "www.example.com"

// demo has autocert itself fill a cache, swaps, and shows that nothing is issued again; all on loopback, with a fake CA.
func demo(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "swap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca := acmetest.NewServer()
	defer ca.Close()
	client := func() *acme.Client { return &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()} }

	before := &old.Manager{
		Prompt: old.AcceptTOS, Cache: old.DirCache(dir), HostPolicy: old.HostWhitelist(demoHost), Client: client(),
	}
	ca.Resolve(demoHost, acmetest.Target{TLSConfig: before.TLSConfig()})
	if _, err := before.GetCertificate(&tls.ClientHelloInfo{
		ServerName: demoHost, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}); err != nil {
		return fmt.Errorf("autocert: %w", err)
	}
	requests := ca.Count(acmetest.Any)
	fmt.Printf("Before: autocert had a certificate issued for %s with %d requests to the CA, and wrote it to its cache.\n", demoHost, requests)

	after := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir), HostPolicy: autocert.HostWhitelist(demoHost), Client: client(),
	}
	defer after.Close()
	tlsListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	plainListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- serve(ctx, after, tlsListener, plainListener) }()

	reply, took, err := visit(ctx, ca, tlsListener.Addr().String())
	if err != nil {
		return err
	}
	fmt.Printf("After:  the server with the changed import line answers %q after %v, with %d more requests to the CA.\n",
		reply, took.Round(10*time.Microsecond), ca.Count(acmetest.Any)-requests)
	stop()
	if err := <-served; err != nil {
		return err
	}
	fmt.Println("It was shut down; what it has in the cache, autocert could serve again.")
	if ca.Count(acmetest.Any) != requests {
		return fmt.Errorf("the swap cost requests to the CA:\n%s", ca)
	}
	return nil
}

// visit makes one HTTPS request to addr, with every check that a browser makes.
func visit(ctx context.Context, ca *acmetest.Server, addr string) (reply string, took time.Duration, err error) {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+demoHost+"/", nil)
	if err != nil {
		return "", 0, err
	}
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body[:max(len(body)-1, 0)]), time.Since(start), err
}
