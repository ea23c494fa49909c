package acmetest

import (
	"crypto/x509"
)

// Issued returns the issued certificates, oldest first.
func (s *Server) Issued() []*x509.Certificate {
	s.mustBeUsable()
	return s.issued()
}

func (s *Server) issued() []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return leaves(s.state.certificates)
}

// IssuedFor returns the certificates issued for orders with this name, oldest
// first.
func (s *Server) IssuedFor(host string) []*x509.Certificate {
	s.mustBeUsable()
	host = mustBeName(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	return leaves(s.state.certificatesFor[host])
}

// Revoked returns the revoked certificates, oldest first.
func (s *Server) Revoked() []*x509.Certificate {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	var revoked []*certificate
	for _, c := range s.state.certificates {
		if c.revoked {
			revoked = append(revoked, c)
		}
	}
	return leaves(revoked)
}

// Revoke revokes a certificate on the CA's own initiative, as after an
// incident: its renewal window moves into the past. Revoking twice has no
// effect. It panics if the certificate was not issued here.
func (s *Server) Revoke(leaf *x509.Certificate) {
	s.mustBeUsable()
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.mustHaveIssued(leaf); !c.revoked {
		c.revoke(now)
	}
}

func leaves(certificates []*certificate) []*x509.Certificate {
	var list []*x509.Certificate
	for _, c := range certificates {
		list = append(list, c.leaf)
	}
	return list
}

// CSRsFor returns the CSRs of the certificates issued for orders with this
// name, oldest first.
func (s *Server) CSRsFor(host string) []*x509.CertificateRequest {
	s.mustBeUsable()
	host = mustBeName(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*x509.CertificateRequest
	for _, c := range s.state.certificatesFor[host] {
		list = append(list, c.request)
	}
	return list
}

// getCertificate sends a chain to the account that ordered it (RFC 8555,
// section 7.4.2).
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
