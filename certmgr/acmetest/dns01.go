package acmetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// maxCNAMEs is how many CNAME records a lookup of TXT records follows.
const maxCNAMEs = 8

// txtRecords holds the TXT records for dns-01. The zero value has none.
type txtRecords struct {
	mu     sync.Mutex
	values map[string][]string
	alias  map[string]string // CNAME records
}

// AddTXT adds a TXT record to a name such as "_acme-challenge.www.example.com",
// as a DNS provider does for a dns-01 challenge. Adding an existing record has
// no effect.
func (s *Server) AddTXT(name, value string) {
	s.mustBeUsable()
	name = mustBeRecord(name)
	s.txt.mu.Lock()
	defer s.txt.mu.Unlock()
	if s.txt.values == nil {
		s.txt.values = make(map[string][]string)
	}
	if !slices.Contains(s.txt.values[name], value) {
		s.txt.values[name] = append(s.txt.values[name], value)
	}
}

// RemoveTXT removes a TXT record. A missing record is not an error.
func (s *Server) RemoveTXT(name, value string) {
	s.mustBeUsable()
	name = mustBeRecord(name)
	s.txt.mu.Lock()
	defer s.txt.mu.Unlock()
	kept := slices.DeleteFunc(s.txt.values[name], func(v string) bool { return v == value })
	if len(kept) == 0 {
		delete(s.txt.values, name)
		return
	}
	s.txt.values[name] = kept
}

// TXT returns the TXT records of a name, oldest first, without following
// SetCNAME. It shows what a DNS provider left behind.
func (s *Server) TXT(name string) []string {
	s.mustBeUsable()
	name = mustBeRecord(name)
	s.txt.mu.Lock()
	defer s.txt.mu.Unlock()
	return slices.Clone(s.txt.values[name])
}

// SetCNAME redirects lookups of TXT records for name to target, for challenges
// delegated to another zone. An empty target removes the redirect.
func (s *Server) SetCNAME(name, target string) {
	s.mustBeUsable()
	name = mustBeRecord(name)
	if target != "" {
		target = mustBeRecord(target)
	}
	s.txt.mu.Lock()
	defer s.txt.mu.Unlock()
	if s.txt.alias == nil {
		s.txt.alias = make(map[string]string)
	}
	if target == "" {
		delete(s.txt.alias, name)
		return
	}
	s.txt.alias[name] = target
}

// CNAME returns where SetCNAME redirects lookups for a name; empty means
// nowhere.
func (s *Server) CNAME(name string) string {
	s.mustBeUsable()
	name = mustBeRecord(name)
	s.txt.mu.Lock()
	defer s.txt.mu.Unlock()
	return s.txt.alias[name]
}

// lookupTXT returns the TXT records of a name, from the DNS server that
// validations ask or from AddTXT, and the name after following CNAMEs, if that
// is known.
func (s *Server) lookupTXT(ctx context.Context, name string) (values []string, where string, problem *Problem) {
	if s.DNSServer == "" {
		return s.txt.lookup(name)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.DNSServer)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: dial}
	values, err := resolver.LookupTXT(ctx, name+".") // the dot stops search lists
	if notFound, ok := errors.AsType[*net.DNSError](err); ok && notFound.IsNotFound {
		return nil, name, problemf("dns", "no TXT record found for %s at the DNS server %s", name, s.DNSServer)
	}
	if err != nil {
		return nil, name, problemf("dns", "looking up TXT for %s at the DNS server %s: %v", name, s.DNSServer, err)
	}
	return values, name, nil
}

// lookup returns the records of a name, and the name after following CNAMEs.
func (t *txtRecords) lookup(name string) (values []string, where string, problem *Problem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	where = name
	for range maxCNAMEs {
		next, ok := t.alias[where]
		if !ok {
			return slices.Clone(t.values[where]), where, nil
		}
		where = next
	}
	return nil, where, problemf("dns", "looking up TXT for %s: more than %d CNAME records, or a loop", name, maxCNAMEs)
}

// validateDNS01 compares the TXT records of a name with the key authorization
// (RFC 8555, section 8.4).
func (s *Server) validateDNS01(ctx context.Context, host, keyAuthorization string) *Problem {
	name := "_acme-challenge." + strings.TrimPrefix(host, "*.")
	values, where, problem := s.lookupTXT(ctx, name)
	if problem != nil {
		return problem
	}
	at := name
	if where != name {
		at = fmt.Sprintf("%s (for which %s is an alias)", where, name)
	}
	if len(values) == 0 {
		return problemf("dns", "NXDOMAIN looking up TXT for %s: the test's CA has no such record (add it by AddTXT)", at)
	}
	sum := sha256.Sum256([]byte(keyAuthorization))
	want := base64url.EncodeToString(sum[:])
	if !slices.Contains(values, want) {
		return problemf("unauthorized", "dns-01 for %s: the TXT records at %s are %q, and none is %q", host, at, values, want)
	}
	return nil
}
