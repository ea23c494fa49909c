package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// manager is a certmgr.Manager with its test's records.
type manager struct {
	*certmgr.Manager
	traffic *traffic
	events  *record
}

// newManager returns a Manager that gets certificates for hosts from p. The
// test may change its fields before it uses it. It is closed when the test
// ends.
func newManager(t *testing.T, p *pebble, cache certmgr.Cache, hosts ...string) *manager {
	t.Helper()
	allowed, err := certmgr.NewAllowlist(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{traffic: &traffic{next: p.transport}, events: new(record)}
	m.Manager = &certmgr.Manager{
		Prompt:        certmgr.AcceptTOS,
		Cache:         cache,
		Hosts:         allowed,
		Client:        m.traffic.client(p),
		Audit:         m.events.hook,
		HandshakeWait: timeout, // long, as the machine may be slow
	}
	t.Cleanup(func() {
		m.close(t)
		if t.Failed() {
			for _, e := range m.events.all() {
				t.Log(e)
			}
			t.Log("requests: ", m.traffic.all())
		}
	})
	return m
}

// client returns an acme.Client like a user's.
func (tr *traffic) client(p *pebble) *acme.Client {
	return &acme.Client{DirectoryURL: p.directory, HTTPClient: &http.Client{Transport: tr}}
}

// close closes the Manager; all its events are recorded afterwards.
func (m *manager) close(t *testing.T) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// timeout bounds every wait of a test.
const timeout = 60 * time.Second

// obtain obtains the host's certificate or fails the test.
func (m *manager) obtain(t *testing.T, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := m.Obtain(ctx, host); err != nil {
		t.Fatal(err)
	}
}

// serveTLS runs an HTTPS server on l and returns its address.
func serveTLS(t *testing.T, l net.Listener, config *tls.Config) string {
	t.Helper()
	srv := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "host=", r.Host) }))
	srv.TLSConfig = config
	go srv.ServeTLS(l, "", "")
	return l.Addr().String()
}

// serveHTTP runs an HTTP server on l.
func serveHTTP(t testing.TB, l net.Listener, h http.Handler) {
	t.Helper()
	go newServer(t, h).Serve(l)
}

func newServer(t testing.TB, h http.Handler) *http.Server {
	srv := &http.Server{Handler: h, ErrorLog: stdlog.New(io.Discard, "", 0)}
	t.Cleanup(func() { srv.Close() })
	return srv
}

// visitor is a TLS client: what it supports, or nil for Go's defaults.
type visitor func(*tls.Config)

// rsaOnly is a client that cannot verify ECDSA.
func rsaOnly(c *tls.Config) {
	c.MaxVersion = tls.VersionTLS12
	c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
}

// visit requests a page of host from the server at addr by HTTPS over a new
// connection, verifies the certificate against roots and returns it.
func visit(ctx context.Context, addr, host string, roots *x509.CertPool, v visitor) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	config := &tls.Config{RootCAs: roots}
	if v != nil {
		v(config)
	}
	transport := &http.Transport{
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return nil, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "host="+host {
		return nil, fmt.Errorf("page is %q, error %v", body, err)
	}
	return res.TLS.PeerCertificates[0], nil
}

// mustVisit is visit for servers that must answer.
func mustVisit(t *testing.T, addr, host string, roots *x509.CertPool, v visitor) *x509.Certificate {
	t.Helper()
	cert, err := visit(t.Context(), addr, host, roots, v)
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return cert
}
