package acmetest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"net/http"
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
	return &reply{status: http.StatusOK, raw: c.pem, rawType: "application/pem-certificate-chain"}, nil
}

// revoke revokes a certificate for the account that ordered it or for its own key (RFC 8555, section 7.6).
func (s *Server) revoke(x *exchange) (*reply, *Problem) {
	var payload struct {
		Certificate string
		Reason      *int
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	der, err := base64url.DecodeString(payload.Certificate)
	if err != nil {
		return nil, problemf("malformed", "the certificate is not base64url without padding")
	}
	// What Let's Encrypt accepts from subscribers: unspecified, keyCompromise, superseded, cessationOfOperation.
	if payload.Reason != nil && !slices.Contains([]int{0, 1, 4, 5}, *payload.Reason) {
		return nil, problemf("badRevocationReason", "the reason %d is not supported", *payload.Reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.state.certificates, func(c *certificate) bool { return bytes.Equal(c.leaf.Raw, der) })
	if i < 0 {
		return nil, notFound("the certificate was not issued here")
	}
	c := s.state.certificates[i]
	if !x.mayRevoke(c) {
		return nil, problemf("unauthorized", "the certificate was ordered by another account")
	}
	if c.revoked {
		return nil, problemf("alreadyRevoked", "the certificate was revoked before")
	}
	c.revoked = true
	return &reply{status: http.StatusOK}, nil
}

// mayRevoke reports whether the request is signed by the account or with the certificate's own key.
func (x *exchange) mayRevoke(c *certificate) bool {
	if x.account != nil {
		return x.account == c.account
	}
	key, err := parseJWK(x.jws.header.jwk)
	if err != nil {
		return false
	}
	public, ok := key.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.leaf.PublicKey)
}
