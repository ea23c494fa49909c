package acmetest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// newOrder creates an order (RFC 8555, section 7.4).
func (s *Server) newOrder(x *exchange) (*reply, *Problem) {
	var payload struct {
		Identifiers         []json.RawMessage
		NotBefore, NotAfter *string
		Replaces, Profile   string
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	if payload.NotBefore != nil || payload.NotAfter != nil {
		return nil, problemf("malformed", "notBefore and notAfter are not supported")
	}
	identifiers := make([]identifier, len(payload.Identifiers))
	for i, raw := range payload.Identifiers {
		if problem := decodeObject(raw, &identifiers[i]); problem != nil {
			return nil, problem.within("identifier " + strconv.Itoa(i+1))
		}
	}
	hosts, problem := s.checkIdentifiers(identifiers)
	if problem != nil {
		return nil, problem
	}
	domains := s.registeredDomains(hosts)

	s.mu.Lock()
	defer s.mu.Unlock()
	if problem := s.disagreement(x.account); problem != nil {
		return nil, problem
	}
	o := &order{
		account: x.account,
		hosts:   hosts,
		domains: domains,
		status:  pending,
		created: s.now(),
	}
	o.expires = o.created.Add(pendingLifetime)
	if problem := s.setReplaces(o, payload.Replaces); problem != nil {
		return nil, problem
	}
	if o.profile, problem = s.chooseProfile(payload.Profile, hosts); problem != nil {
		return nil, problem
	}
	if problem := s.limitOrder(o); problem != nil {
		return nil, problem
	}
	s.addOrder(o, len(s.hosts.take(faultInvalidOrder, hosts...)) > 0)
	return s.orderReply(o, http.StatusCreated), nil
}

// addOrder adds an order with its authorizations. If dead, all of them are
// invalid from the start. s.mu is held.
func (s *Server) addOrder(o *order, dead bool) {
	for _, host := range o.hosts {
		a := s.reusable(o, host)
		if a == nil || dead {
			a = s.newAuthorization(o, host)
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
	if o.replaces != nil {
		o.replaces.replacement = o
	}
	o.id = len(s.state.orders) + 1
	s.state.orders = append(s.state.orders, o)
}

// reusable returns a valid authorization for one of an order's names, if reuse
// is enabled. As at Let's Encrypt, it must have the same profile. s.mu is held.
func (s *Server) reusable(o *order, host string) *authorization {
	if !s.ReuseAuthorizations {
		return nil
	}
	for _, a := range slices.Backward(s.state.authorizationsFor[host]) {
		if a.account == o.account && a.profile == o.profile && a.current(o.created) == valid {
			return a
		}
	}
	return nil
}

// newAuthorization creates a pending authorization and its challenges for one
// of an order's names. s.mu is held.
func (s *Server) newAuthorization(o *order, host string) *authorization {
	a := &authorization{
		account: o.account,
		host:    host,
		profile: o.profile,
		status:  pending,
		expires: o.expires,
	}
	s.state.addAuthorization(a)
	for _, typ := range s.challengesFor(host) {
		c := &challenge{
			id:            len(s.state.challenges) + 1,
			authorization: a,
			typ:           typ,
			token:         randomText(32),
			status:        pending,
		}
		s.state.challenges = append(s.state.challenges, c)
		a.challenges = append(a.challenges, c)
	}
	return a
}

// orderReply returns an order object. s.mu is held.
func (s *Server) orderReply(o *order, status int) *reply {
	state := o.current(s.now())
	object := map[string]any{
		"status":   state,
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
	if o.profile != "" {
		object["profile"] = o.profile
	}
	if o.replaces != nil {
		object["replaces"] = o.replaces.certID
	}
	if o.certificate != nil {
		object["certificate"] = s.url(pathCertificate, o.certificate.id)
	}
	return &reply{
		status:   status,
		location: s.url(pathOrder, o.id),
		pending:  state == pending || state == processing,
		json:     object,
	}
}

// getOrder returns an order to its account.
func (s *Server) getOrder(x *exchange) (*reply, *Problem) {
	if problem := x.requirePostAsGet(); problem != nil {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, problem := s.ownOrder(x)
	if problem != nil {
		return nil, problem
	}
	return s.orderReply(o, http.StatusOK), nil
}

// ownOrder returns the requested order, if it belongs to the account that
// signed the request. s.mu is held.
func (s *Server) ownOrder(x *exchange) (*order, *Problem) {
	o := numbered(s.state.orders, x.id)
	if o == nil {
		return nil, notFound("there is no order %d", x.id)
	}
	if o.account != x.account {
		return nil, problemf("unauthorized", "order %d belongs to another account", x.id)
	}
	return o, nil
}
