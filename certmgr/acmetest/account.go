package acmetest

import (
	"encoding/json"
	"net/http"
	"net/mail"
	"slices"
	"strings"
)

// Account is an account of the CA.
type Account struct {
	// URL is the account's URL, its key identifier.
	URL string
	// Contact are the contact URLs.
	Contact []string
	// Thumbprint is the RFC 7638 thumbprint of the account's key.
	Thumbprint string
	// Status is "valid" or "deactivated".
	Status string
}

// Accounts returns the accounts, oldest first.
func (s *Server) Accounts() []Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Account, len(s.state.accounts))
	for i, a := range s.state.accounts {
		list[i] = Account{s.url(pathAccount, a.id), slices.Clone(a.contact), a.key.thumbprint, a.status}
	}
	return list
}

// accountByURL returns the account that a key identifier names, or nil.
func (s *Server) accountByURL(url string) *account {
	path, ok := strings.CutPrefix(url, s.base)
	if !ok {
		return nil
	}
	endpoint, id := parsePath(path)
	if endpoint != UpdateAccount {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return numbered(s.state.accounts, id)
}

func (s *Server) accountStatus(a *account) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.status
}

// newAccount makes or finds an account (RFC 8555, section 7.3).
func (s *Server) newAccount(x *exchange) (*reply, *Problem) {
	var payload struct {
		Contact              []string
		TermsOfServiceAgreed bool
		OnlyReturnExisting   bool
		Binding              json.RawMessage `json:"externalAccountBinding"`
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	key, err := parseJWK(x.jws.header.jwk)
	if err != nil {
		return nil, problemf("badPublicKey", "the jwk cannot be used: %v", err)
	}
	if rep, problem := s.knownAccount(x, key); rep != nil || problem != nil {
		return rep, problem
	}
	if payload.OnlyReturnExisting {
		return nil, problemf("accountDoesNotExist", "there is no account with this key")
	}
	if problem := checkContact(payload.Contact); problem != nil {
		return nil, problem
	}
	if s.Terms != "" && !payload.TermsOfServiceAgreed {
		return nil, problemf("malformed", "the terms of service must be agreed to: %s", s.Terms)
	}
	if problem := s.checkBinding(x, payload.Binding, key); problem != nil {
		return nil, problem
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	status := http.StatusCreated
	a := s.state.accountByKey[key.thumbprint]
	if a == nil {
		a = &account{
			id:      len(s.state.accounts) + 1,
			key:     key,
			contact: payload.Contact,
			agreed:  payload.TermsOfServiceAgreed,
			status:  valid,
		}
		s.state.accounts = append(s.state.accounts, a)
		s.state.accountByKey[key.thumbprint] = a
	} else {
		status = http.StatusOK // another request was faster
	}
	return s.accountReply(x, a, status), nil
}

// knownAccount answers newAccount if the key has an account already.
func (s *Server) knownAccount(x *exchange, key *publicKey) (*reply, *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.accountByKey[key.thumbprint]
	if a == nil {
		return nil, nil
	}
	if a.status != valid {
		p := problemf("unauthorized", "the account of this key is %s", a.status)
		p.Status = http.StatusUnauthorized
		return nil, p
	}
	return s.accountReply(x, a, http.StatusOK), nil
}

// accountReply shows an account. s.mu is held.
func (s *Server) accountReply(x *exchange, a *account, status int) *reply {
	url := s.url(pathAccount, a.id)
	s.journal.about(x.entry, x.hosts, url)
	object := map[string]any{"status": a.status}
	if len(a.contact) > 0 {
		object["contact"] = slices.Clone(a.contact)
	}
	if a.agreed {
		object["termsOfServiceAgreed"] = true
	}
	return &reply{status: status, location: url, json: object}
}

// checkContact accepts mailto URLs with one plain address (RFC 8555, section 7.3).
func checkContact(contacts []string) *Problem {
	for _, contact := range contacts {
		address, ok := strings.CutPrefix(contact, "mailto:")
		if !ok {
			return problemf("unsupportedContact", "the contact %q is not a mailto URL", contact)
		}
		parsed, err := mail.ParseAddress(address)
		if err != nil || parsed.Address != address || strings.Contains(address, "?") {
			return problemf("invalidContact", "the contact %q is not one plain address", contact)
		}
	}
	return nil
}

// updateAccount reads, changes or deactivates an account (RFC 8555, sections 7.3.2 and 7.3.6).
func (s *Server) updateAccount(x *exchange) (*reply, *Problem) {
	if x.account.id != x.id {
		return nil, problemf("unauthorized", "this is not the URL of the account that signed the request")
	}
	var payload struct {
		Contact *[]string
		Status  string
	}
	if !x.isPostAsGet() {
		if problem := x.decode(&payload); problem != nil {
			return nil, problem
		}
	}
	if payload.Status != "" && payload.Status != deactivated {
		return nil, problemf("malformed", "an account's status cannot be changed to %q", payload.Status)
	}
	if payload.Contact != nil {
		if problem := checkContact(*payload.Contact); problem != nil {
			return nil, problem
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if payload.Contact != nil {
		x.account.contact = *payload.Contact
	}
	if payload.Status == deactivated {
		x.account.status = deactivated
		for _, o := range s.state.orders {
			if o.account == x.account && (o.status == pending || o.status == ready) {
				o.status = invalid
			}
		}
	}
	return s.accountReply(x, x.account, http.StatusOK), nil
}
