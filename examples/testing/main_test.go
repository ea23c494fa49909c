package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// An end-to-end test over real sockets: the first client's handshake begins an
// issuance and the client verifies the certificate; the next one costs the CA
// nothing; the server ends in order.
func TestVisitorIsServed(t *testing.T) {
	const host = "www.example.com"
	ca := acmetest.NewServer()
	defer ca.Close()
	events := new(recorder)
	s := newTestSite(t, ca, new(cache.Memory), events, host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ca.Resolve(host, acmetest.Target{TLSAddr: listener.Addr().String()})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, listener) }()
	if err := s.certs.Obtain(t.Context(), host); err != nil { // serve has begun to issue: wait for it
		t.Fatalf("%v\n%v", err, ca)
	}

	client := ca.Visitor() // finds the host where Resolve says, and verifies its certificate
	first := mustGet(t, client, host)
	if first.Header.Get("Strict-Transport-Security") == "" {
		t.Error("a visitor may come back without encryption")
	}
	requests := ca.Count(acmetest.Any)
	mustGet(t, client, host)
	if n := ca.Count(acmetest.Any) - requests; n != 0 {
		t.Errorf("the second visitor caused %d requests to the CA\n%v", n, ca)
	}
	if res, err := client.Get("https://other.example.net/"); err == nil {
		res.Body.Close()
		t.Error("a host that is not on the list was served")
	}
	if n := ca.CountHost(acmetest.Any, "other.example.net"); n != 0 {
		t.Errorf("a host that is not on the list caused %d requests to the CA\n%v", n, ca)
	}

	stop()
	if err := <-ended; err != nil { // now all events are delivered
		t.Errorf("the end of the server: %v", err)
	}
	issued := events.of(audit.CertificateIssued)
	leaf := first.TLS.PeerCertificates[0]
	if len(issued) != 1 || issued[0].Host != host || !issued[0].NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("events %q: %v", audit.CertificateIssued, issued)
	}
}

// newTestSite returns a site that uses ca and keeps its log to itself.
func newTestSite(t *testing.T, ca *acmetest.Server, c certmgr.Cache, events *recorder, hosts ...string) *site {
	t.Helper()
	s, err := newSite(config{
		hosts: hosts,
		cache: c,
		ca:    &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		audit: events.hook,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dialer is what http.Transport dials with.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// newClient returns a client that makes a new connection for each request and
// verifies certificates against ca's root.
func newClient(ca *acmetest.Server, dial dialer) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: ca.Roots()},
		DialContext:       dial,
	}}
}

// mustGet asks for a page that has to be there.
func mustGet(t *testing.T, client *http.Client, host string) *http.Response {
	t.Helper()
	res, err := client.Get("https://" + host + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if want := "Hello from " + host + ".\n"; err != nil || res.StatusCode != http.StatusOK || string(body) != want {
		t.Fatalf("%s: %s %q, error %v, want %q", host, res.Status, body, err, want)
	}
	return res
}
