package integration

import (
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// maxRequests is the number of requests for a certificate with a known account,
// at a CA that validates and issues at once: newOrder, authorization,
// challenge, authorization, finalize, order, certificate.
const maxRequests = 7

func TestRequestsForACertificate(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	m := newManager(t, p, new(cache.Memory), "first.example.org", "second.example.org")
	serveTLS(t, l, m.TLSConfig())
	m.obtain(t, "first.example.org") // the directory, an account, nonces
	m.traffic.reset()
	m.obtain(t, "second.example.org")

	// Pebble validates and issues in the background. On a busy machine it may
	// not have finished when it is asked for the result; only such requests may
	// be additional.
	early, accepted := 0, false
	for _, r := range m.traffic.all() {
		switch {
		case r.resource == challenge:
			accepted = true
		case r.resource == authz && accepted && r.object == "pending", r.resource == order && r.object == "processing":
			early++
		}
	}
	all := m.traffic.all()
	t.Logf("%d requests, %d of them before Pebble was done: %v", len(all), early, all)
	if n := len(all) - early; n > maxRequests {
		t.Errorf("%d requests for a certificate, want %d at most", n, maxRequests)
	}
}

// A CA that reuses a validation sends no new challenge: the order is ready at
// once.
func TestAuthorizationReuse(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l), authzReuse: 100})
	const host = "www.example.org"
	m := newManager(t, p, new(cache.Memory), host)
	addr := serveTLS(t, l, m.TLSConfig())
	first := mustVisit(t, addr, host, p.roots, nil)
	m.traffic.reset()

	if err := m.Renew(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	second := mustVisit(t, addr, host, p.roots, nil)
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the old certificate is still served")
	}
	if n := m.traffic.sent(challenge); n != 0 {
		t.Errorf("%d challenges, want none", n)
	}
	if n := m.traffic.accepted(newOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	m.close(t)
	if n := len(m.events.of(audit.CertificateIssued)); n != 2 {
		t.Errorf("%d certificates issued, want 2", n)
	}
}
