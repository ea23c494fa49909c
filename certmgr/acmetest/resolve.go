package acmetest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Target is where a name leads during validation: loopback addresses, or a
// configuration and a handler that are used in memory. The zero Target is a
// host that refuses connections.
type Target struct {
	// TLSAddr is the host:port to dial for tls-alpn-01 and for redirects to
	// https.
	TLSAddr string
	// HTTPAddr is the host:port to dial for http-01.
	HTTPAddr string
	// TLSConfig replaces TLSAddr by a handshake in memory with a server of this
	// configuration. It needs a GetCertificate and "acme-tls/1" among its
	// NextProtos, like every server that answers tls-alpn-01.
	TLSConfig *tls.Config
	// HTTPHandler replaces HTTPAddr. It is called in memory, also for redirects
	// to https if there is no HTTPSHandler.
	HTTPHandler http.Handler
	// HTTPSHandler answers the https requests of Visitor, after a handshake with
	// TLSConfig. Nil means an empty reply with status 204.
	HTTPSHandler http.Handler
}

// check panics if an address cannot be dialled, or HTTPSHandler has no use.
func (t *Target) check() {
	if t.HTTPSHandler != nil && t.TLSConfig == nil {
		panic("acmetest: a Target with an HTTPSHandler needs a TLSConfig")
	}
	for field, addr := range map[string]string{"TLSAddr": t.TLSAddr, "HTTPAddr": t.HTTPAddr} {
		if addr == "" {
			continue
		}
		if host, port, err := net.SplitHostPort(addr); err != nil || port == "" || strings.Contains(host, "/") {
			panic(fmt.Sprintf("acmetest: %s is %q, which is not host:port: take it from Addr of the listener", field, addr))
		}
	}
}

// names is the table that replaces DNS.
type names struct {
	mu    sync.Mutex
	table map[string]Target // by name or wildcard
}

// Resolve makes a name lead to t. The pattern is an exact name, "*.example.com"
// for names with one more label, or "*" for every name. The most specific entry
// applies; an entry of the same pattern is replaced. A name without an entry
// does not exist: its validation fails with "dns".
func (s *Server) Resolve(pattern string, t Target) {
	s.mustBeUsable()
	pattern = mustBePattern(pattern)
	t.check()
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	if s.names.table == nil {
		s.names.table = make(map[string]Target)
	}
	s.names.table[pattern] = t
}

// Unresolve removes the entry of a pattern.
func (s *Server) Unresolve(pattern string) {
	s.mustBeUsable()
	pattern = mustBePattern(pattern)
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	delete(s.names.table, pattern)
}

// Target returns where a name leads according to Resolve; ok is false for a
// name that does not exist.
func (s *Server) Target(name string) (t Target, ok bool) {
	s.mustBeUsable()
	t, problem := s.names.lookup(mustBeName(name))
	return t, problem == nil
}

// lookup returns where a name leads, or a problem of type "dns".
func (n *names) lookup(host string) (Target, *Problem) {
	host = nameSent(host)
	n.mu.Lock()
	defer n.mu.Unlock()
	patterns := []string{host}
	if _, parent, ok := strings.Cut(host, "."); ok {
		patterns = append(patterns, "*."+parent)
	}
	for _, pattern := range append(patterns, "*") {
		if t, ok := n.table[pattern]; ok {
			return t, nil
		}
	}
	return Target{}, problemf("dns", "NXDOMAIN looking up %s: no such name in the table of the test's CA", host)
}

// matchName reports whether a pattern of Resolve matches host, both in lower
// case.
func matchName(pattern, host string) bool {
	if pattern == "*" || pattern == host {
		return true
	}
	if parent, ok := strings.CutPrefix(pattern, "*."); ok {
		_, rest, ok := strings.Cut(host, ".")
		return ok && rest == parent
	}
	return false
}
