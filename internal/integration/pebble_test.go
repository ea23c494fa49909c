package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pebbleConfig is the configuration of a Pebble. Pebble's validation connects
// to the ports; port zero is one without a listener.
type pebbleConfig struct {
	tlsPort     int               // for tls-alpn-01
	httpPort    int               // for http-01
	nonceReject int               // percentage of good nonces that are refused
	authzReuse  int               // percentage of valid authorizations that are reused
	eab         map[string]string // key identifier to base64url key; if set, binding is required

	alternateRoots int
	profiles       map[string]time.Duration // lifetimes by name; nil for Pebble's only one
}

// pebble is a running CA.
type pebble struct {
	directory  string          // URL
	management string          // URL of the management interface
	transport  pebbleTransport // trusts the CA's HTTPS certificate
	trustFile  string          // that certificate
	roots      *x509.CertPool  // of the certificates that it issues
	dns        *dnsServer
}

// pebbleTransport avoids a deadlock of Pebble. When Pebble 2.10 is asked for an
// order it takes a read lock twice, and does not get it the second time if the
// certificate is stored in between: the writer waits for the first. Then no
// request for any order is answered. So this transport holds back the reply to
// finalize until the certificate is issued, and no client polls meanwhile.
type pebbleTransport struct {
	*http.Transport
	server *process
}

// issuedTimeout bounds the wait for an issuance, which may fail.
const issuedTimeout = 5 * time.Second

func (t pebbleTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.Transport.RoundTrip(req)
	order, isFinalize := strings.CutPrefix(req.URL.Path, "/finalize-order/")
	if err != nil || !isFinalize || res.StatusCode != http.StatusOK {
		return res, err
	}
	ctx, cancel := context.WithTimeout(req.Context(), issuedTimeout)
	defer cancel()
	t.server.awaitOutput(ctx, "for order "+order)
	return res, nil
}

// awaitIssued waits until the server has issued a certificate.
func (t pebbleTransport) awaitIssued(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, issuedTimeout)
	defer cancel()
	t.server.awaitOutput(ctx, "for order ")
}

// dnsServer answers Pebble.
type dnsServer struct {
	addr       string
	management string // URL
}

// startTries is how often a server is started again on other ports.
const startTries = 3

// startPebble starts a CA that resolves every name to 127.0.0.1. It ends with
// the test.
func startPebble(t testing.TB, c pebbleConfig) *pebble {
	t.Helper()
	for _, p := range []*int{&c.tlsPort, &c.httpPort} {
		if *p == 0 {
			*p = freePorts(t, 1)[0]
		}
	}
	dns := startDNS(t)
	var err error
	for range startTries {
		var p *pebble
		if p, err = tryPebble(t, c, dns); err == nil {
			return p
		}
	}
	t.Fatal(err)
	return nil
}

func tryPebble(t testing.TB, c pebbleConfig, dns *dnsServer) (*pebble, error) {
	t.Helper()
	dir := t.TempDir()
	cert, key, trust := serverCertificate(t, dir)
	ports := freePorts(t, 2)
	profiles := make(map[string]any)
	for name, lifetime := range c.profiles {
		profiles[name] = map[string]any{"description": lifetime.String(), "validityPeriod": lifetime / time.Second}
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":                  loopback(ports[0]),
		"managementListenAddress":        loopback(ports[1]),
		"certificate":                    cert,
		"privateKey":                     key,
		"tlsPort":                        c.tlsPort,
		"httpPort":                       c.httpPort,
		"keyAlgorithm":                   "ecdsa", // starts faster
		"externalAccountBindingRequired": c.eab != nil,
		"externalAccountMACKeys":         c.eab,
		"profiles":                       profiles,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PEBBLE_VA_NOSLEEP=1",
		"PEBBLE_WFE_NONCEREJECT=" + strconv.Itoa(c.nonceReject),
		"PEBBLE_AUTHZREUSE=" + strconv.Itoa(c.authzReuse),
		"PEBBLE_ALTERNATE_ROOTS=" + strconv.Itoa(c.alternateRoots),
	}
	proc := start(t, "pebble", env, "-config", file, "-dnsserver", dns.addr)
	p := &pebble{
		directory:  "https://" + loopback(ports[0]) + "/dir",
		management: "https://" + loopback(ports[1]),
		transport:  pebbleTransport{&http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}, proc},
		trustFile:  cert,
		roots:      x509.NewCertPool(),
		dns:        dns,
	}
	t.Cleanup(p.transport.CloseIdleConnections)
	err = proc.await(t.Context(), func(ctx context.Context) error {
		if _, err := p.fetch(ctx, p.directory); err != nil {
			return err
		}
		root, err := p.fetch(ctx, p.management+"/roots/0")
		if err == nil && !p.roots.AppendCertsFromPEM(root) {
			err = fmt.Errorf("root certificate cannot be read: %q", root)
		}
		return err
	})
	if err != nil {
		proc.stop()
		return nil, err
	}
	return p, nil
}

func (p *pebble) fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, res.Status)
	}
	return io.ReadAll(res.Body)
}

// startDNS starts a DNS server that answers 127.0.0.1 for every name.
func startDNS(t testing.TB) *dnsServer {
	t.Helper()
	var err error
	for range startTries {
		ports := freePorts(t, 2)
		addr, management := loopback(ports[0]), loopback(ports[1])
		proc := start(t, "pebble-challtestsrv", nil, "-dnsserver", addr, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
			"-management", management, "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "")
		s := &dnsServer{addr, "http://" + management}
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr) // as Pebble does
		}}
		err = proc.await(t.Context(), func(ctx context.Context) error {
			ips, err := resolver.LookupHost(ctx, "ready.example.org.")
			if err == nil && (len(ips) != 1 || ips[0] != "127.0.0.1") {
				err = fmt.Errorf("answer is %q", ips)
			}
			if err != nil {
				return err
			}
			return s.addTXT(ctx, "ready.example.org", "ready")
		})
		if err == nil {
			return s
		}
		proc.stop()
	}
	t.Fatal(err)
	return nil
}

// addTXT adds a TXT record to a name.
func (s *dnsServer) addTXT(ctx context.Context, name, value string) error {
	return postJSON(ctx, http.DefaultTransport, s.management+"/set-txt", map[string]string{"host": name + ".", "value": value})
}

// postJSON posts JSON to one of these servers.
func postJSON(ctx context.Context, transport http.RoundTripper, url string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}

// serverCertificate writes a certificate for 127.0.0.1 and its key into dir.
func serverCertificate(t testing.TB, dir string) (certFile, keyFile string, trust *x509.CertPool) {
	t.Helper()
	key := newECKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, blockType string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	trust = x509.NewCertPool()
	trust.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", keyDER), trust
}
