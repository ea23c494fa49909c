package acmetest

// agreementURL is the "instance" of userActionRequired. There is no such page:
// AgreeToTerms replaces visiting it.
const agreementURL = "https://acmetest.invalid/agree"

// ChangeTerms changes the terms of service while the CA runs. Accounts that
// agreed to others, or to none, are refused new orders with userActionRequired
// (RFC 8555, section 7.3.3) until AgreeToTerms. An empty URL removes the terms.
func (s *Server) ChangeTerms(url string) {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.terms = url
}

// AgreeToTerms does what a human does on the CA's website: the account with
// this URL agrees to the current terms of service. ACME has no request for
// that. It panics if there is no such account.
func (s *Server) AgreeToTerms(accountURL string) {
	s.mustBeUsable()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustHaveAccount(accountURL).terms = s.state.terms
}

func (s *Server) currentTerms() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.terms
}

// disagreement returns a problem if the account has not agreed to the current
// terms. s.mu is held.
func (s *Server) disagreement(a *account) *Problem {
	if s.state.terms == "" || a.terms == s.state.terms {
		return nil
	}
	p := problemf("userActionRequired", "the terms of service have changed: a human must agree to %s at %s",
		s.state.terms, agreementURL)
	p.terms, p.instance = s.state.terms, agreementURL
	return p
}
