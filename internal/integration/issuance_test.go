package integration

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

func TestTLSALPN01(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	m := newManager(t, p, new(cache.Memory), "www.example.org")
	addr := serveTLS(t, l, m.TLSConfig())

	first := mustVisit(t, addr, "www.example.org", p.roots, nil)
	again := mustVisit(t, addr, "WWW.example.org", p.roots, nil)
	if !first.Equal(again) {
		t.Error("the second visitor got another certificate")
	}
	if n := m.traffic.sent(newOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	m.close(t)
	if n := len(m.events.of(audit.CertificateIssued)); n != 1 {
		t.Errorf("%d events %s, want 1", n, audit.CertificateIssued)
	}
	mustVisit(t, addr, "www.example.org", p.roots, nil) // still served after Close
}

// The server has a tls.Config of its own, which does not support acme-tls/1, so
// that only http-01 can succeed.
func TestHTTP01(t *testing.T) {
	tlsListener, httpListener := listen(t), listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(tlsListener), httpPort: port(httpListener)})
	const host = "www.example.org"
	m := newManager(t, p, new(cache.Memory), host)
	addr := serveTLS(t, tlsListener, &tls.Config{GetCertificate: m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}})
	var answered atomic.Int32
	handler := m.HTTPHandler(nil)
	serveHTTP(t, httpListener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
			answered.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))

	// The handshake shows that the server does not offer acme-tls/1, so http-01
	// is the first type to be tried.
	first := mustVisit(t, addr, host, p.roots, nil)
	if answered.Load() == 0 {
		t.Error("Pebble has not asked for an http-01 answer")
	}
	orders := m.traffic.accepted(newOrder)
	if orders != 1 {
		t.Errorf("%d orders for the first certificate, want 1", orders)
	}
	if err := m.Renew(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if n := m.traffic.accepted(newOrder) - orders; n != 1 {
		t.Errorf("%d orders for the renewal, want 1", n)
	}
	if renewed := mustVisit(t, addr, host, p.roots, nil); renewed.Equal(first) {
		t.Error("the certificate that is served was not renewed")
	}
	m.close(t)
	if failed := m.events.of(audit.ChallengeFailed); len(failed) > 0 {
		t.Errorf("events %s: %v", audit.ChallengeFailed, failed)
	}
}

func TestBothKeyTypes(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	const host = "www.example.org"
	stored := new(cache.Memory)
	m := newManager(t, p, stored, host)
	addr := serveTLS(t, l, m.TLSConfig())

	for _, c := range []struct {
		name   string
		v      visitor
		want   x509.PublicKeyAlgorithm
		orders int
		key    string
	}{
		{"modern client", nil, x509.ECDSA, 1, host},
		{"client without ECDSA", rsaOnly, x509.RSA, 2, host + "+rsa"},
		{"modern client again", nil, x509.ECDSA, 2, host},
		{"client without ECDSA again", rsaOnly, x509.RSA, 2, host + "+rsa"},
	} {
		cert := mustVisit(t, addr, host, p.roots, c.v)
		if got := cert.PublicKeyAlgorithm; got != c.want {
			t.Errorf("%s: got a certificate for %s, want %s", c.name, got, c.want)
		}
		if n := m.traffic.sent(newOrder); n != c.orders {
			t.Errorf("%s: %d orders so far, want %d", c.name, n, c.orders)
		}
	}
	m.close(t)
	for _, key := range []string{host, host + "+rsa"} {
		if _, err := stored.Get(t.Context(), key); err != nil {
			t.Errorf("cache entry %q: %v", key, err)
		}
	}
	if n := m.traffic.sent(newAccount); n != 1 {
		t.Errorf("%d account requests, want 1", n)
	}
}

// A CA that validates by tls-alpn-01 sends only the host's name, so two
// concurrent orders for a host must not take each other's answer.
func TestBothKeyTypesAtOnce(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	const host = "www.example.org"
	m := newManager(t, p, new(cache.Memory), host)
	addr := serveTLS(t, l, m.TLSConfig())

	var wg sync.WaitGroup
	for _, v := range []visitor{nil, rsaOnly} {
		wg.Go(func() {
			if _, err := visit(t.Context(), addr, host, p.roots, v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m.close(t)
	if failed := m.events.of(audit.IssuanceFailed); len(failed) != 0 {
		t.Errorf("%d issuances failed", len(failed))
	}
}

// Ten hosts get their certificates although the CA refuses a fifth of all
// nonces, and no handshake has to be repeated.
func TestNonceRejection(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l), nonceReject: 20})
	hosts := make([]string, 10)
	for i := range hosts {
		hosts[i] = string(rune('a'+i)) + ".example.org"
	}
	m := newManager(t, p, new(cache.Memory), hosts...)
	addr := serveTLS(t, l, m.TLSConfig())

	var wg sync.WaitGroup
	for _, host := range hosts {
		wg.Go(func() {
			if _, err := visit(t.Context(), addr, host, p.roots, nil); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		})
	}
	wg.Wait()
	m.close(t)
	if n := len(m.events.of(audit.IssuanceFailed)); n != 0 {
		t.Errorf("%d issuances failed", n)
	}
	if n := m.traffic.accepted(newOrder); n != len(hosts) {
		t.Errorf("%d orders for %d hosts", n, len(hosts))
	}
	n, all := m.traffic.refused("badNonce"), len(m.traffic.all())
	t.Logf("%d of %d requests were refused for their nonces", n, all)
	if n == 0 {
		t.Error("Pebble has refused no nonce, so that nothing was tested")
	}
}
