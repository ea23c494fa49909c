package acmetest_test

import (
	"net/http"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

func TestBlockAccount(t *testing.T) {
	const known = "An account with the provided public key exists but is deactivated"
	for how, want := range map[acmetest.AccountBlock]struct {
		status           int
		detail, register string
	}{
		acmetest.BoulderDeactivated: {403, `Unable to validate JWS :: Account is not valid, has status "deactivated"`, known},
		acmetest.BoulderRevoked:     {403, `Unable to validate JWS :: Account is not valid, has status "revoked"`, ""},
		acmetest.ZeroSSLDeactivated: {401, "The account has been deactivated", ""},
		acmetest.StepCADeactivated:  {401, "account is not active", ""},
	} {
		t.Run(string(how), func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			c, other := newRawClient(t, s), newRawClient(t, s)
			c.register()
			other.register()
			u, _ := c.order("a.example.com")
			lift := s.BlockAccount(acmetest.Match{Account: c.kid}, how).Lift
			register := post{url: c.endpoint("/new-account"), payload: `{"onlyReturnExisting":true}`,
				header: map[string]any{"kid": nil, "jwk": conformance.JWK(t, c.key.Public())}}
			for what, p := range map[string]post{"read": {url: u}, "account": {url: c.kid}, "register": register,
				"order": {url: c.endpoint("/new-order"), payload: `{"identifiers":[{"type":"dns","value":"b.example.com"}]}`}} {
				detail := want.detail
				if what == "register" && want.register != "" {
					detail = want.register
				}
				if a := c.do(p); a.status != want.status || a.problem() != "unauthorized" || a.str("detail") != detail ||
					a.header.Get("Replay-Nonce") == "" || lastRequest(s).Fault != "BlockAccount" {
					t.Errorf("%s: %d %s", what, a.status, a.body)
				}
			}
			if n := len(s.Orders()); n != 1 {
				t.Errorf("%d orders: the CA acted", n)
			}
			if a := other.newOrder(nil, "a.example.com"); a.status != http.StatusCreated {
				t.Errorf("another account: %d %s", a.status, a.body)
			}
			lift()
			if a := c.get(u); a.status != http.StatusOK {
				t.Errorf("after the lift: %d %s", a.status, a.body)
			}
		})
	}
}

// Without an account in the Match, all that exist are blocked, but unsigned
// requests and new accounts are not.
func TestBlockAllAccounts(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := newACMEClient(t, s)
	s.BlockAccount(acmetest.Match{}, acmetest.ZeroSSLDeactivated)
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); !isAs[*acme.Error](err) {
		t.Errorf("the order: %v", err)
	}
	newACMEClient(t, s) // registers
}
