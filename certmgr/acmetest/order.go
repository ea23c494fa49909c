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
	asked, problem := s.askedDates(payload.NotBefore, payload.NotAfter)
	if problem != nil {
		return nil, problem
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
	if problem := s.refuseNames(x, hosts); problem != nil {
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
		asked:   asked,
	}
	o.expires = o.created.Add(pendingLifetime)
	if problem := s.setReplaces(o, payload.Replaces); problem != nil {
		return nil, problem
	}
	if o.profile, problem = s.chooseProfile(payload.Profile, hosts); problem != nil {
		return nil, problem
	}
	if o.dates, problem = s.chooseDates(asked, o.profile); problem != nil {
		return nil, problem
	}
	if open := s.reusableOrder(o); open != nil {
		s.journal.fault(x.entry, string(faultReuseOrder))
		return s.orderReply(open, http.StatusCreated), nil
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
	s.state.addOrder(o)
}

// reusable returns a valid or pending authorization for one of an order's
// names, if the reuse of such is enabled. As at Let's Encrypt, it must have the
// same profile. s.mu is held.
func (s *Server) reusable(o *order, host string) *authorization {
	for _, a := range slices.Backward(s.state.authorizationsFor[host]) {
		if a.account != o.account || a.profile != o.profile {
			continue
		}
		switch a.current(o.created) {
		case valid:
			if s.ReuseAuthorizations {
				return a
			}
		case pending:
			if len(s.hosts.take(faultReusePending, host)) > 0 {
				return a
			}
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
	state, certificate := o.current(s.now()), o.certificate
	if o.seemsReady != nil && o.seemsReady() {
		state, certificate = ready, nil
	}
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
	if o.problem != nil && state != ready {
		object["error"] = *o.problem
	}
	o.dates.show(object)
	if o.profile != "" {
		object["profile"] = o.profile
	}
	if o.replaces != nil {
		object["replaces"] = o.replaces.certID
	}
	if certificate != nil {
		object["certificate"] = s.url(pathCertificate, certificate.id)
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
