package acmetest

import (
	"fmt"
	"slices"
)

// agreementURL is what the "instance" of userActionRequired names. Nothing is there: the visit is AgreeToTerms.
const agreementURL = "https://acmetest.invalid/agree"

// ChangeTerms gives the CA other terms of service while it runs. Accounts that agreed to others, or to none, are refused
// new orders with userActionRequired (RFC 8555, section 7.3.3) until AgreeToTerms. An empty URL means that there are no
// terms any more.
func (s *Server) ChangeTerms(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.terms = url
}

// AgreeToTerms is what a human does who is sent to the CA's website: the account with this URL agrees to the terms of
// service as they are now. There is no way to do that over ACME. It panics if there is no such account, as a test cannot
// go on then.
func (s *Server) AgreeToTerms(accountURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.state.accounts, func(a *account) bool { return s.url(pathAccount, a.id) == accountURL })
	if i < 0 {
		panic(fmt.Sprintf("acmetest: there is no account %q", accountURL))
	}
	s.state.accounts[i].terms = s.state.terms
}

func (s *Server) currentTerms() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.terms
}

// disagreement refuses an account that did not agree to the terms in force. s.mu is held.
func (s *Server) disagreement(a *account) *Problem {
	if s.state.terms == "" || a.terms == s.state.terms {
		return nil
	}
	p := problemf("userActionRequired", "the terms of service have changed: a human must agree to %s at %s",
		s.state.terms, agreementURL)
	p.terms, p.instance = s.state.terms, agreementURL
	return p
}
