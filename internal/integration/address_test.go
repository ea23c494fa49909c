package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// listenAt listens on an address of loopback. A machine may have no IPv6.
func listenAt(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Skipf("this machine has no address %s: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// visitAddress connects to a server by its IP address. Go's client sends no SNI
// then, and verifies that the certificate is for the address.
func visitAddress(t *testing.T, at string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots}}).DialContext(ctx, "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// Pebble validates addresses as RFC 8738 has it: over tls-alpn-01 by the reverse
// name, over http-01 by a URL with the address.
func TestAddress(t *testing.T) {
	profiles := map[string]time.Duration{"default": 90 * 24 * time.Hour, "shortlived": 160 * time.Hour}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run("tls-alpn-01 "+addr, func(t *testing.T) {
			l := listenAt(t, addr)
			p := startPebble(t, pebbleConfig{tlsPort: port(l), profiles: profiles})
			stored := new(cache.Memory)
			m := newManager(t, p, stored, addr)
			testAddress(t, m, p, addr, serveTLS(t, l, m.TLSConfig()))
			key := map[string]string{"::1": "__1"}[addr]
			if key == "" {
				key = addr
			}
			if _, err := stored.Get(t.Context(), key); err != nil {
				t.Errorf("the entry %q: %v", key, err)
			}
		})
		t.Run("http-01 "+addr, func(t *testing.T) {
			l, web := listenAt(t, addr), listenAt(t, addr)
			p := startPebble(t, pebbleConfig{tlsPort: port(l), httpPort: port(web), profiles: profiles})
			m := newManager(t, p, new(cache.Memory), addr)
			serveHTTP(t, web, m.HTTPHandler(nil))
			// It does not offer acme-tls/1, so that only http-01 can succeed.
			config := &tls.Config{GetCertificate: m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
			testAddress(t, m, p, addr, serveTLS(t, l, config))
		})
	}
}

// testAddress visits a server twice, and renews its certificate.
func testAddress(t *testing.T, m *manager, p *pebble, addr, at string) {
	t.Helper()
	first := visitAddress(t, at, p.roots)
	if len(first.DNSNames) != 0 || len(first.IPAddresses) != 1 {
		t.Errorf("the certificate is for %q, %v", first.DNSNames, first.IPAddresses)
	}
	if d := first.NotAfter.Sub(first.NotBefore); d > 161*time.Hour {
		t.Errorf("its lifetime is %v, not that of the profile shortlived", d)
	}
	if !visitAddress(t, at, p.roots).Equal(first) {
		t.Error("the second visitor got another certificate")
	}
	if err := m.Renew(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	if visitAddress(t, at, p.roots).Equal(first) {
		t.Error("the certificate that is served was not renewed")
	}
	m.close(t)
	for _, e := range m.events.of(audit.CertificateIssued) {
		if e.Profile != "shortlived" || e.Host != addr {
			t.Errorf("issued for %s with the profile %q", e.Host, e.Profile)
		}
	}
}
