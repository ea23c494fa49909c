package acmetest

import "net/http"

// AccountBlock is how a CA refuses the requests of a blocked account: the type
// is "unauthorized" everywhere, status and text differ. See
// [Server.BlockAccount].
type AccountBlock string

// The refusals of some CAs.
const (
	// BoulderDeactivated is that of Let's Encrypt for an account that its user
	// has deactivated: 403.
	BoulderDeactivated AccountBlock = "Boulder, deactivated"
	// BoulderRevoked is that of Let's Encrypt for an account that the CA has
	// blocked, for example because its key was published: 403.
	BoulderRevoked AccountBlock = "Boulder, revoked"
	// ZeroSSLDeactivated is that of ZeroSSL: 401.
	ZeroSSLDeactivated AccountBlock = "ZeroSSL, deactivated"
	// StepCADeactivated is that of step-ca: 401.
	StepCADeactivated AccountBlock = "step-ca, deactivated"
)

// BlockAccount refuses the requests that name an existing account (see
// Match.Account), including newAccount with its key, as a CA does that has
// blocked the account: before it acts, until the fault is lifted. Unlike after
// DeactivateAccount, the account itself does not change. An empty Match.Account
// means all accounts. BlockAccount panics if there is no such refusal.
func (s *Server) BlockAccount(m Match, how AccountBlock) *Fault {
	if how.problem(Any).Detail == "" {
		panic("acmetest: no CA blocks accounts like " + string(how))
	}
	return s.addFault(&requestFault{kind: faultBlocked, match: m, problem: how.problem})
}

// problem returns the refusal of a request to an endpoint.
func (b AccountBlock) problem(e Endpoint) Problem {
	p := Problem{Type: "unauthorized", Status: http.StatusForbidden}
	switch {
	case b == BoulderDeactivated && e == NewAccount:
		p.Detail = "An account with the provided public key exists but is deactivated"
	case b == BoulderDeactivated:
		p.Detail = `Unable to validate JWS :: Account is not valid, has status "deactivated"`
	case b == BoulderRevoked:
		p.Detail = `Unable to validate JWS :: Account is not valid, has status "revoked"`
	case b == ZeroSSLDeactivated:
		p.Detail, p.Status = "The account has been deactivated", http.StatusUnauthorized
	case b == StepCADeactivated:
		p.Detail, p.Status = "account is not active", http.StatusUnauthorized
	}
	return p
}
