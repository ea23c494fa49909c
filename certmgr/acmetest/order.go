package acmetest

import (
	"crypto/rand"
	"net/http"
	"slices"
	"time"
)

// newOrder makes an order (RFC 8555, section 7.4).
func (s *Server) newOrder(x *exchange) (*reply, *Problem) {
	var payload struct {
		Identifiers         []identifier
		NotBefore, NotAfter *string
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	if payload.NotBefore != nil || payload.NotAfter != nil {
		return nil, problemf("malformed", "notBefore and notAfter are not supported")
	}
	hosts, problem := s.checkIdentifiers(payload.Identifiers)
	if problem != nil {
		return nil, problem
	}
	dead := len(s.hosts.find(faultInvalidOrder, hosts...)) > 0

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	o := &order{
		id:      len(s.state.orders) + 1,
		account: x.account,
		hosts:   hosts,
		status:  pending,
		expires: now.Add(pendingLifetime),
	}
	for _, host := range hosts {
		a := s.reusable(x.account, host, now)
		if a == nil || dead {
			a = s.newAuthorization(x.account, host, now)
		}
		if dead {
			a.status = invalid
		}
		o.authorizations = append(o.authorizations, a)
	}
	if dead {
		o.status = invalid
		o.problem = problemf("serverInternal", "the order is invalid because the test wants it")
	}
	s.state.orders = append(s.state.orders, o)
	return s.orderReply(o, http.StatusCreated), nil
}

// reusable returns a valid authorization of the account for host, if they are reused. s.mu is held.
func (s *Server) reusable(acct *account, host string, now time.Time) *authorization {
	if !s.ReuseAuthorizations {
		return nil
	}
	for _, a := range slices.Backward(s.state.authorizations) {
		if a.account == acct && a.host == host && a.current(now) == valid {
			return a
		}
	}
	return nil
}

// newAuthorization makes a pending authorization with its challenges. s.mu is held.
func (s *Server) newAuthorization(acct *account, host string, now time.Time) *authorization {
	a := &authorization{
		id:      len(s.state.authorizations) + 1,
		account: acct,
		host:    host,
		status:  pending,
		expires: now.Add(pendingLifetime),
	}
	s.state.authorizations = append(s.state.authorizations, a)
	for _, typ := range s.challengesFor(host) {
		c := &challenge{
			id:            len(s.state.challenges) + 1,
			authorization: a,
			typ:           typ,
			token:         newToken(),
			status:        pending,
		}
		s.state.challenges = append(s.state.challenges, c)
		a.challenges = append(a.challenges, c)
	}
	return a
}

func newToken() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64url.EncodeToString(b)
}

// orderReply shows an order. s.mu is held.
func (s *Server) orderReply(o *order, status int) *reply {
	now := o.current(s.now())
	object := map[string]any{
		"status":   now,
		"expires":  o.expires.UTC().Format(time.RFC3339),
		"finalize": s.url(pathFinalize, o.id),
	}
	var identifiers []identifier
	for _, host := range o.hosts {
		identifiers = append(identifiers, identifierOf(host))
	}
	object["identifiers"] = identifiers
	var authorizations []string
	for _, a := range o.authorizations {
		authorizations = append(authorizations, s.url(pathAuthorization, a.id))
	}
	object["authorizations"] = authorizations
	if o.problem != nil {
		object["error"] = *o.problem
	}
	if o.certificate != nil {
		object["certificate"] = s.url(pathCertificate, o.certificate.id)
	}
	return &reply{
		status:   status,
		location: s.url(pathOrder, o.id),
		pending:  now == pending || now == processing,
		json:     object,
	}
}

// getOrder shows an order to its account.
func (s *Server) getOrder(x *exchange) (*reply, *Problem) {
	if problem := x.requirePostAsGet(); problem != nil {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := numbered(s.state.orders, x.id)
	if o == nil {
		return nil, notFound("there is no order %d", x.id)
	}
	if o.account != x.account {
		return nil, problemf("unauthorized", "order %d belongs to another account", x.id)
	}
	return s.orderReply(o, http.StatusOK), nil
}
