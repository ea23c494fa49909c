package acmetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"unicode"
)

// maxContacts is how many contacts an account may have. Boulder has such a
// limit too.
const maxContacts = 10

// Account is an account at the CA.
type Account struct {
	// URL is the account's URL, its key identifier.
	URL string
	// Contact holds the contact URLs.
	Contact []string
	// Thumbprint is the RFC 7638 thumbprint of the account's key.
	Thumbprint string
	// Status is "valid" or "deactivated".
	Status string
}

// Accounts returns the accounts, oldest first.
func (s *Server) Accounts() []Account {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Account, len(s.state.accounts))
	for i, a := range s.state.accounts {
		list[i] = Account{s.url(pathAccount, a.id), slices.Clone(a.contact), a.key.thumbprint, a.status}
	}
	return list
}

// DeactivateAccount deactivates the account with this URL, as its user or the CA
// may do at any time (RFC 8555, section 7.3.6). All of its requests are refused
// from then on, and its key cannot be registered again. It panics if there is no
// such account.
func (s *Server) DeactivateAccount(accountURL string) {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deactivate(s.mustHaveAccount(accountURL))
}

// mustHaveAccount returns the account with this URL. s.mu is held.
func (s *Server) mustHaveAccount(url string) *account {
	for _, a := range s.state.accounts {
		if s.url(pathAccount, a.id) == url {
			return a
		}
	}
	panic(fmt.Sprintf("acmetest: there is no account %q", url))
}

// mustBeAccountURL panics if url is neither empty nor the URL of an account
// that this CA has or may have.
func (s *Server) mustBeAccountURL(url string) {
	if path, ok := strings.CutPrefix(url, s.base); ok || url == "" {
		if endpoint, _ := parsePath(path); endpoint == UpdateAccount || url == "" {
			return
		}
	}
	panic(fmt.Sprintf("acmetest: %q is not the URL of an account of this CA, such as %s: see Accounts", url, s.base+pathAccount+"1"))
}

// accountByURL returns the account that a key identifier names and its current
// key, or nil.
func (s *Server) accountByURL(url string) (*account, *publicKey) {
	path, ok := strings.CutPrefix(url, s.base)
	if !ok {
		return nil, nil
	}
	endpoint, id := parsePath(path)
	if endpoint != UpdateAccount {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := numbered(s.state.accounts, id)
	if a == nil {
		return nil, nil
	}
	return a, a.key
}

func (s *Server) accountStatus(a *account) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.status
}

// newAccount creates or finds an account (RFC 8555, section 7.3).
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if rep, problem := s.knownAccount(x); rep != nil || problem != nil {
		return rep, problem
	}
	if payload.OnlyReturnExisting {
		return nil, problemf("accountDoesNotExist", "there is no account with this key")
	}
	if problem := checkContacts(payload.Contact); problem != nil {
		return nil, problem
	}
	if s.state.terms != "" && !payload.TermsOfServiceAgreed {
		return nil, problemf("malformed", "the terms of service must be agreed to: %s", s.state.terms)
	}
	if problem := s.checkBinding(x, payload.Binding); problem != nil {
		return nil, problem
	}
	if problem := s.limitAccount(x); problem != nil {
		return nil, problem
	}
	a := &account{
		id:      len(s.state.accounts) + 1,
		key:     x.key,
		contact: payload.Contact,
		agreed:  payload.TermsOfServiceAgreed,
		status:  valid,
		terms:   s.state.terms,
	}
	if s.EAB != nil {
		a.binding = payload.Binding // shown only if it was checked
	}
	s.state.accounts = append(s.state.accounts, a)
	s.state.accountByKey[a.key.thumbprint] = a
	return s.accountReply(x, a, http.StatusCreated), nil
}

// knownAccount answers newAccount if the key already has an account. The rest
// of the request is ignored (RFC 8555, section 7.3.1). s.mu is held.
func (s *Server) knownAccount(x *exchange) (*reply, *Problem) {
	a := s.state.accountByKey[x.key.thumbprint]
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

// accountReply returns an account object. s.mu is held.
func (s *Server) accountReply(x *exchange, a *account, status int) *reply {
	url := s.url(pathAccount, a.id)
	s.journal.about(x.entry, x.hosts, url)
	object := map[string]any{"status": a.status, "orders": s.url(pathOrdersList, a.id)}
	if len(a.contact) > 0 {
		object["contact"] = slices.Clone(a.contact)
	}
	if a.agreed {
		object["termsOfServiceAgreed"] = true
	}
	if a.binding != nil {
		object["externalAccountBinding"] = a.binding
	}
	return &reply{status: status, location: url, json: object}
}

// checkContacts accepts mailto URLs with one plain address each (RFC 8555,
// section 7.3).
func checkContacts(contacts []string) *Problem {
	if len(contacts) > maxContacts {
		return problemf("malformed", "%d contacts are more than %d", len(contacts), maxContacts)
	}
	for _, contact := range contacts {
		scheme, address, _ := strings.Cut(contact, ":")
		if !strings.EqualFold(scheme, "mailto") {
			return problemf("unsupportedContact", "the contact %q is not a mailto URL", contact)
		}
		parsed, err := mail.ParseAddress(address)
		if err != nil || parsed.Address != address || strings.ContainsFunc(address, notPlain) {
			return problemf("invalidContact", "the contact %q is not one plain address", contact)
		}
		if problem := checkName(strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])); problem != nil {
			return problemf("invalidContact", "the contact %q cannot be reached: %s", contact, problem.Detail)
		}
	}
	return nil
}

// notPlain reports characters that do not belong in the address of a mailto
// URL: "?" begins header fields, "#" a fragment, and non-ASCII must be escaped
// (RFC 6068, section 2).
func notPlain(r rune) bool { return r == '?' || r == '#' || r > unicode.MaxASCII }

// updateAccount reads, changes or deactivates an account (RFC 8555, sections
// 7.3.2 and 7.3.6).
func (s *Server) updateAccount(x *exchange) (*reply, *Problem) {
	if x.account.id != x.id {
		return nil, problemf("unauthorized", "this is not the URL of the account that signed the request")
	}
	// The agreement to the terms cannot be changed here (section 7.3.3).
	var payload struct {
		Contact *[]string
		Status  string
	}
	if !x.isPostAsGet() {
		if problem := x.decode(&payload); problem != nil {
			return nil, problem
		}
	}
	// RFC 8555 ignores other statuses, Boulder and Pebble refuse them: such a
	// client has a bug. Many clients send the account unchanged, so "valid" is
	// accepted.
	if !slices.Contains([]string{"", valid, deactivated}, payload.Status) {
		return nil, problemf("malformed", "an account's status cannot be changed to %q", payload.Status)
	}
	if payload.Contact != nil {
		if problem := checkContacts(*payload.Contact); problem != nil {
			return nil, problem
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if payload.Contact != nil {
		x.account.contact = *payload.Contact
	}
	if payload.Status == deactivated {
		s.deactivate(x.account)
	}
	return s.accountReply(x, x.account, http.StatusOK), nil
}

// deactivate ends an account and everything pending for it, including
// certificates being issued (RFC 8555, section 7.3.6). Issued certificates are
// not affected. s.mu is held.
func (s *Server) deactivate(acct *account) {
	acct.status = deactivated
	now := s.now()
	for _, o := range s.state.orders {
		if status := o.current(now); o.account == acct && (status == pending || status == ready || status == processing) {
			o.status, o.problem = invalid, problemf("unauthorized", "the account was deactivated")
		}
	}
	for _, a := range s.state.authorizations {
		if a.account == acct && a.current(now) == pending {
			a.status = deactivated
		}
	}
}
