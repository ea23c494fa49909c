package acmetest

import (
	"crypto/x509"
	"slices"
	"strings"
)

// Issued returns the certificates that were issued, oldest first.
func (s *Server) Issued() []*x509.Certificate {
	return s.issued(func(*certificate) bool { return true })
}

// IssuedFor returns the certificates that were issued for orders with this name, oldest first.
func (s *Server) IssuedFor(host string) []*x509.Certificate {
	host = strings.ToLower(host)
	return s.issued(func(c *certificate) bool { return slices.Contains(c.hosts, host) })
}

// Revoked returns the certificates that were revoked, oldest first.
func (s *Server) Revoked() []*x509.Certificate {
	return s.issued(func(c *certificate) bool { return c.revoked })
}

// Revoke lets the CA revoke a certificate by itself, as after an incident: its renewal window moves into the past.
// Revoking twice does nothing. It panics if the certificate was not issued here, as a test cannot go on then.
func (s *Server) Revoke(leaf *x509.Certificate) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.mustHaveIssued(leaf); !c.revoked {
		c.revoke(now)
	}
}

func (s *Server) issued(want func(*certificate) bool) []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*x509.Certificate
	for _, c := range s.state.certificates {
		if want(c) {
			list = append(list, c.leaf)
		}
	}
	return list
}

// CSRsFor returns the certificate requests of the certificates that were issued for orders with this name, oldest
// first.
func (s *Server) CSRsFor(host string) []*x509.CertificateRequest {
	host = strings.ToLower(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*x509.CertificateRequest
	for _, c := range s.state.certificates {
		if slices.Contains(c.hosts, host) {
			list = append(list, c.request)
		}
	}
	return list
}

// getCertificate sends a chain to the account that ordered it (RFC 8555, section 7.4.2).
func (s *Server) getCertificate(x *exchange) (*reply, *Problem) {
	if problem := x.requirePostAsGet(); problem != nil {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := numbered(s.state.certificates, x.id)
	if c == nil {
		return nil, notFound("there is no certificate %d", x.id)
	}
	if c.account != x.account {
		return nil, problemf("unauthorized", "certificate %d belongs to another account", x.id)
	}
	return s.chainReply(x, c)
}
