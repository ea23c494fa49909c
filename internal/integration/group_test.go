package integration

import (
	"slices"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// Several names share a certificate of Pebble, which is renewed for all of them.
func TestGroup(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	names := []string{"example.org", "mail.example.org", "www.example.org"}
	m := newManager(t, p, new(cache.Memory), names...)
	if err := m.Hosts.AddGroup(names...); err != nil {
		t.Fatal(err)
	}
	addr := serveTLS(t, l, m.TLSConfig())
	first := mustVisit(t, addr, "www.example.org", p.roots, nil)
	for _, name := range names {
		if cert := mustVisit(t, addr, name, p.roots, nil); !cert.Equal(first) {
			t.Errorf("%s has a certificate for %q", name, cert.DNSNames)
		}
	}
	if got := slices.Sorted(slices.Values(first.DNSNames)); !slices.Equal(got, names) {
		t.Errorf("the certificate is for %q", got)
	}
	if err := m.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Fatal(err)
	}
	next := mustVisit(t, addr, "example.org", p.roots, nil)
	if next.Equal(first) || !mustVisit(t, addr, "www.example.org", p.roots, nil).Equal(next) {
		t.Error("the certificate was not renewed for all names")
	}
	if n := m.traffic.accepted(newOrder); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
	m.close(t)
	if n := len(m.events.of(audit.CertificateIssued)); n != 2 {
		t.Errorf("%d events %s, want 2", n, audit.CertificateIssued)
	}
}
