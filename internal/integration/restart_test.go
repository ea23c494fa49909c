package integration

import (
	"crypto/tls"
	"net/http"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// A restarted process has everything it needs in its cache: it does not even
// fetch the CA's directory.
func TestRestart(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	dir := certmgr.DirCache(t.TempDir())
	hosts := []string{"a.example.org", "b.example.org", "c.example.org"}
	// In this order: a client that supports both types gets the one in the
	// cache.
	kinds := []struct {
		name string
		v    visitor
	}{{"ECDSA", nil}, {"RSA", rsaOnly}}

	served := make(map[string]string) // serial numbers
	m := newManager(t, p, dir, hosts...)
	addr := serveTLS(t, l, m.TLSConfig())
	for _, host := range hosts {
		for _, kind := range kinds {
			served[host+kind.name] = mustVisit(t, addr, host, p.roots, kind.v).SerialNumber.String()
		}
	}
	m.close(t)

	for _, warm := range []bool{false, true} {
		m := newManager(t, p, dir, hosts...)
		addr := serveTLS(t, listen(t), m.TLSConfig())
		if warm {
			if err := m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, host := range hosts {
			for _, kind := range kinds {
				if got := mustVisit(t, addr, host, p.roots, kind.v).SerialNumber.String(); got != served[host+kind.name] {
					t.Errorf("%s, %s: certificate %s is served after the restart, want %s", host, kind.name, got, served[host+kind.name])
				}
			}
		}
		m.close(t)
		m.traffic.wantNone(t)
		if n := len(m.events.of(audit.CertificateLoaded)); n != len(served) {
			t.Errorf("with Start %t: %d certificates loaded, want %d", warm, n, len(served))
		}
	}
}

// certificates is the interface of both packages' Managers for a server.
type certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// The Manager that comes second serves the first one's certificates from the
// cache without a request to the CA, and uses the account of the first.
func TestSwitchWithAutocert(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	// The CA has one port, so one server has to serve for both.
	var current atomic.Pointer[certificates]
	addr := serveTLS(t, l, &tls.Config{
		NextProtos: []string{"h2", "http/1.1", acme.ALPNProto},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return (*current.Load()).GetCertificate(hello)
		},
	})

	type maker func(dir string, hosts ...string) (certificates, *traffic)
	withAutocert := func(dir string, hosts ...string) (certificates, *traffic) {
		tr := &traffic{next: p.transport}
		return &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(dir),
			HostPolicy: autocert.HostWhitelist(hosts...),
			Client:     tr.client(p),
		}, tr
	}
	withCertmgr := func(dir string, hosts ...string) (certificates, *traffic) {
		m := newManager(t, p, certmgr.DirCache(dir), hosts...)
		return m, m.traffic
	}

	for _, c := range []struct {
		name          string
		first, second maker
	}{
		{"from autocert to certmgr", withAutocert, withCertmgr},
		{"from certmgr to autocert", withCertmgr, withAutocert},
	} {
		t.Run(c.name, func(t *testing.T) {
			const host, added = "www.example.org", "added.example.org"
			dir := t.TempDir()
			m, _ := c.first(dir, host)
			current.Store(&m)
			ec := mustVisit(t, addr, host, p.roots, nil)
			rsa := mustVisit(t, addr, host, p.roots, rsaOnly)

			m, tr := c.second(dir, host, added)
			current.Store(&m)
			if !mustVisit(t, addr, host, p.roots, nil).Equal(ec) || !mustVisit(t, addr, host, p.roots, rsaOnly).Equal(rsa) {
				t.Error("the second serves another certificate than the first")
			}
			tr.wantNone(t)
			mustVisit(t, addr, added, p.roots, nil)
			if n := tr.count(func(r request) bool { return r.resource == newAccount && r.status == http.StatusCreated }); n != 0 {
				t.Error("the second has registered an account of its own")
			}
		})
	}
}
