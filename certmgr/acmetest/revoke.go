package acmetest

import (
	"crypto/sha256"
	"net/http"
	"slices"
)

// revocationReasons are the reason codes that Let's Encrypt accepts from
// subscribers: unspecified, keyCompromise, superseded, cessationOfOperation
// (RFC 5280, section 5.3.1).
func revocationReasons() []int { return []int{0, 1, 4, 5} }

// revoke revokes a certificate (RFC 8555, section 7.6) for the account that
// ordered it, for one that holds valid authorizations for all its names, or for
// the certificate's own key.
func (s *Server) revoke(x *exchange) (*reply, *Problem) {
	var payload struct {
		Certificate string
		Reason      *int
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	der, err := decode64(payload.Certificate)
	if err != nil {
		return nil, problemf("malformed", "the certificate is not base64url without padding")
	}
	if payload.Reason != nil && !slices.Contains(revocationReasons(), *payload.Reason) {
		return nil, problemf("badRevocationReason", "the reason %d is not one of %v", *payload.Reason, revocationReasons())
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.certificateByDER(der)
	switch {
	case c == nil:
		return nil, notFound("the certificate was not issued here")
	case !s.mayRevoke(x, c):
		return nil, problemf("unauthorized", "the certificate was ordered by another account, and the request is neither signed "+
			"with the certificate's key nor by an account with valid authorizations for all of %v", c.hosts)
	case c.revoked:
		return nil, problemf("alreadyRevoked", "the certificate was revoked before")
	case now.After(c.leaf.NotAfter):
		// RFC 8555 does not cover this; Boulder replies like this.
		return nil, problemf("unauthorized", "the certificate has expired: there is nothing to revoke any more")
	}
	c.revoke(now)
	return &reply{status: http.StatusOK}, nil
}

// certificateByDER returns the certificate with these bytes, or nil. s.mu is
// held.
func (s *Server) certificateByDER(der []byte) *certificate {
	return s.state.certificateByDER[sha256.Sum256(der)]
}

// hostsOfCertificate returns the names of a certificate in base64url, or nil if
// it was not issued here.
func (s *Server) hostsOfCertificate(encoded string) []string {
	der, err := decode64(encoded)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.certificateByDER(der); c != nil {
		return slices.Clone(c.hosts)
	}
	return nil
}

// mayRevoke reports whether the signer of the request may revoke the
// certificate. s.mu is held.
func (s *Server) mayRevoke(x *exchange, c *certificate) bool {
	if x.account == nil {
		return x.key.equal(c.leaf.PublicKey)
	}
	if x.account == c.account {
		return true
	}
	now := s.now()
	controls := func(host string) bool {
		return slices.ContainsFunc(s.state.authorizationsFor[host], func(a *authorization) bool {
			return a.account == x.account && a.current(now) == valid
		})
	}
	return !slices.ContainsFunc(c.hosts, func(host string) bool { return !controls(host) })
}
