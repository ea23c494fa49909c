package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

const demoHost = "demo.example.com"

// demo runs the server on free loopback ports against a fake CA, makes one
// request and ends it.
func demo(ctx context.Context) error {
	cache, err := os.MkdirTemp("", "swap-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(cache) }()
	ca := acmetest.NewServer()
	defer ca.Close()
	plain, secure, err := listenLoopback()
	if err != nil {
		return err
	}
	fmt.Printf("no -hosts: a demonstration with %s on loopback\n  http:  %s\n  https: %s\n  CA:    %s\n",
		demoHost, plain.Addr(), secure.Addr(), ca.URL)
	ca.Resolve(demoHost, acmetest.Target{TLSAddr: secure.Addr().String(), HTTPAddr: plain.Addr().String()})
	m := newManager([]string{demoHost}, cache, &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()})

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, m, plain, secure) }()
	failure := visit(ctx, ca, plain.Addr().String(), secure.Addr().String())
	if failure == nil {
		failure = listCache(cache)
	}
	cancel()
	if err := errors.Join(failure, <-ended); err != nil {
		return err
	}
	fmt.Println("the servers and the manager are closed")

	issued := len(ca.Issued())
	m, err = replace(m, []string{demoHost}, cache, &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()})
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: demoHost}); err != nil {
		return err
	}
	fmt.Printf("a new manager with the same cache serves what is there:\n  %d certificates were issued\n", len(ca.Issued())-issued)
	return nil
}

func listenLoopback() (plain, secure net.Listener, err error) {
	if plain, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, nil, err
	}
	if secure, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		_ = plain.Close()
		return nil, nil, err
	}
	return plain, secure, nil
}

// visit requests http://demo.example.com/ with a real client, which follows the
// redirect to HTTPS and verifies the certificate.
func visit(ctx context.Context, ca *acmetest.Server, plainAddr, secureAddr string) error {
	addrs := map[string]string{demoHost + ":80": plainAddr, demoHost + ":443": secureAddr} // instead of DNS
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: ca.Roots()},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addrs[addr])
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+demoHost+"/", nil)
	if err != nil {
		return err
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.TLS == nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s, over TLS: %t", resp.Request.URL, resp.Status, resp.TLS != nil)
	}
	leaf := resp.TLS.PeerCertificates[0]
	fmt.Printf("visited %s, was sent to\n  %s: %s in %v\n", req.URL, resp.Request.URL, resp.Status,
		time.Since(start).Round(time.Millisecond))
	fmt.Printf("  answer:      %s", body)
	fmt.Printf("  certificate: %v by %s,\n", leaf.DNSNames, leaf.Issuer.CommonName)
	fmt.Printf("               until %s, issued with %d requests to the CA\n", leaf.NotAfter.Format(time.DateOnly), ca.Count(acmetest.Any))
	return nil
}

// listCache prints the files in the cache, which autocert would have written
// and could read.
func listCache(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	fmt.Println("in the cache, as autocert would have left it:")
	for _, file := range files {
		fmt.Printf("  %s\n", file.Name())
	}
	return nil
}
