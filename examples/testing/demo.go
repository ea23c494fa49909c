package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

const demoHost = "demo.example.com"

// demo runs the site on a free loopback port against a fake CA, visits it once
// and ends it.
func demo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ca := acmetest.NewServer()
	defer ca.Close()
	s, err := newSite(config{
		hosts: []string{demoHost},
		cache: new(cache.Memory),
		ca:    &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		audit: func(_ context.Context, e audit.Event) { fmt.Printf("  event: %s %s\n", e.Kind, e.Host) },
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	ca.Resolve(demoHost, acmetest.Target{TLSAddr: addr})
	fmt.Printf("no -hosts: a demonstration with %s on\n  %s, CA %s\n", demoHost, addr, ca.URL)

	ended := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- s.serve(serving, listener) }()
	failure := s.certs.Obtain(ctx, demoHost) // Start issues already: until it is done
	if failure == nil {
		failure = visitDemo(ctx, ca)
	}
	stop()
	if err := errors.Join(failure, <-ended); err != nil {
		return fmt.Errorf("%w\n%v", err, ca)
	}
	fmt.Printf("%d requests to the CA. See what else can be tested:\n  go test -v ./examples/testing\n", ca.Count(acmetest.Any))
	return nil
}

// visitDemo asks for the page with a client that verifies the certificate.
func visitDemo(ctx context.Context, ca *acmetest.Server) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+demoHost+"/", nil)
	if err != nil {
		return err
	}
	res, err := ca.Visitor().Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	fmt.Printf("visited %s: %s, %q\n", req.URL, res.Status, body)
	return nil
}
