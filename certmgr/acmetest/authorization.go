package acmetest

import (
	"net/http"
	"strings"
	"time"
)

// Authorizations returns the statuses of the authorizations for a name, oldest
// first. Those for "*.example.com" and "example.com" are separate.
func (s *Server) Authorizations(host string) []string {
	s.mustBeUsable()
	host = mustBeName(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var list []string
	for _, a := range s.state.authorizationsFor[host] {
		list = append(list, a.current(now))
	}
	return list
}

// postAuthorization reads or deactivates an authorization (RFC 8555, sections
// 7.5 and 7.5.2).
func (s *Server) postAuthorization(x *exchange) (*reply, *Problem) {
	var payload struct{ Status string }
	if !x.isPostAsGet() {
		if problem := x.decode(&payload); problem != nil {
			return nil, problem
		}
		if payload.Status != deactivated {
			return nil, problemf("malformed", "an authorization's status can be changed to deactivated only, not to %q", payload.Status)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := numbered(s.state.authorizations, x.id)
	if a == nil {
		return nil, notFound("there is no authorization %d", x.id)
	}
	if a.account != x.account {
		return nil, problemf("unauthorized", "authorization %d belongs to another account", x.id)
	}
	if status := a.current(s.now()); payload.Status == deactivated && status != deactivated {
		if status != pending && status != valid {
			return nil, problemf("malformed", "an authorization that is %s cannot be deactivated", status)
		}
		a.status = deactivated
	}
	return s.authorizationReply(a), nil
}

// authorizationReply returns an authorization object. Once decided, it shows
// only the challenge that was tried (RFC 8555, section 7.1.4). s.mu is held.
func (s *Server) authorizationReply(a *authorization) *reply {
	status := a.current(s.now())
	challenges := []any{}
	for _, c := range a.challenges {
		if (status == valid || status == invalid) && c.status == pending {
			continue
		}
		challenges = append(challenges, s.challengeObject(c))
	}
	// The name of a wildcard is shown without its "*." (RFC 8555, section
	// 7.1.4).
	name, wildcard := strings.CutPrefix(a.host, "*.")
	object := map[string]any{
		"status":     status,
		"expires":    a.expires.UTC().Format(time.RFC3339),
		"identifier": identifierOf(name),
		"challenges": challenges,
	}
	if wildcard {
		object["wildcard"] = true
	}
	return &reply{status: http.StatusOK, pending: status == pending, json: object}
}

// challengeObject returns a challenge object. s.mu is held.
func (s *Server) challengeObject(c *challenge) any {
	object := map[string]any{
		"type":   c.typ,
		"url":    s.url(pathChallenge, c.id),
		"token":  c.token,
		"status": c.status,
	}
	if c.status == valid {
		object["validated"] = c.validated.UTC().Format(time.RFC3339)
	}
	if c.problem != nil {
		object["error"] = *c.problem
	}
	return object
}

// postChallenge reads a challenge, or accepts it and starts its validation (RFC
// 8555, section 7.5.1).
func (s *Server) postChallenge(x *exchange) (*reply, *Problem) {
	if !x.isPostAsGet() {
		if problem := x.decode(&struct{}{}); problem != nil {
			return nil, problem
		}
	}
	rep, validated, problem := s.accept(x)
	if problem != nil || validated == nil {
		return rep, problem
	}
	select {
	case <-validated:
	case <-x.r.Context().Done(): // the client has left
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.challengeReply(numbered(s.state.challenges, x.id)), nil
}

// accept returns the reply to a request for a challenge, and starts the
// validation if the request accepts the challenge. If the reply has to wait for
// that, accept returns a channel that is closed when the validation has ended.
func (s *Server) accept(x *exchange) (*reply, <-chan struct{}, *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := numbered(s.state.challenges, x.id)
	if c == nil {
		return nil, nil, notFound("there is no challenge %d", x.id)
	}
	a := c.authorization
	if a.account != x.account {
		return nil, nil, problemf("unauthorized", "challenge %d belongs to another account", x.id)
	}
	if !x.isPostAsGet() && c.status != pending && len(s.hosts.take(faultAcceptTwice, a.host)) > 0 {
		s.journal.fault(x.entry, string(faultAcceptTwice))
		return nil, nil, problemf("conflict", "the challenge was accepted before and is %s", c.status)
	}
	if x.isPostAsGet() || c.status != pending {
		return s.challengeReply(c), nil, nil
	}
	if problem := a.acceptable(s.now()); problem != nil {
		return nil, nil, problem
	}
	c.status = processing
	keyAuthorization := c.token + "." + a.account.key.thumbprint
	slow := s.hosts.take(faultSlow, a.host)
	validated := make(chan struct{})
	if !s.tasks.Go(func() {
		defer close(validated)
		s.validate(c, a.host, keyAuthorization, slow)
	}) {
		close(validated) // the server is being closed
	}
	waits := s.ValidateInReply == Always || s.ValidateInReply == ByDefault && s.origin != outside && slow == nil
	if !waits {
		return s.challengeReply(c), nil, nil
	}
	return s.challengeReply(c), validated, nil
}

// challengeReply returns a challenge. Server.mu is held.
func (s *Server) challengeReply(c *challenge) *reply {
	return &reply{
		status:  http.StatusOK,
		up:      s.url(pathAuthorization, c.authorization.id),
		pending: c.status == pending || c.status == processing,
		json:    s.challengeObject(c),
	}
}

// acceptable returns a problem if the authorization is decided, or another of
// its challenges is being validated. Server.mu is held.
func (a *authorization) acceptable(now time.Time) *Problem {
	if status := a.current(now); status != pending {
		return problemf("malformed", "the authorization is %s and not pending", status)
	}
	for _, c := range a.challenges {
		if c.status != pending {
			return problemf("malformed", "another challenge of the authorization is %s", c.status)
		}
	}
	return nil
}
