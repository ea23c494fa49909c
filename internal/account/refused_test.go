package account

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// A refusal that may be about the account is looked into, and nothing else is
// held against it.
func TestRefusalOfAnOrderIsTheAccountsOnlyIfTheCASaysSo(t *testing.T) {
	type reply = func(*http.Request) *http.Response
	refuse := func(status int, kind string) reply {
		return func(r *http.Request) *http.Response { return problem(r, status, kind) }
	}
	status := func(s string) reply {
		return func(r *http.Request) *http.Response { return answer(r, 200, "application/json", `{"status":"`+s+`"}`) }
	}
	for name, tt := range map[string]struct {
		order  reply
		lookUp reply  // nil: the CA's own
		says   string // of an account that is unavailable; empty if it is not to blame
	}{
		"unauthorized, and the account is valid":       {refuse(403, "unauthorized"), nil, ""},
		"unauthorized, and the account is deactivated": {refuse(403, "unauthorized"), status("deactivated"), `its status is "deactivated"`},
		"unauthorized, and the account is refused":     {refuse(403, "unauthorized"), refuse(401, "unauthorized"), "looking up the account"},
		"unauthorized, and the terms have changed":     {refuse(403, "unauthorized"), refuse(403, "userActionRequired"), "waits for an action"},
		"unauthorized, and the CA cannot say":          {refuse(403, "unauthorized"), refuse(503, "serverInternal"), ""},
		"a binding is required":                        {refuse(403, "externalAccountRequired"), nil, "Manager.ExternalAccountBinding"},
		"a rate limit":                                 {refuse(429, "rateLimited"), nil, ""},
		"malformed":                                    {refuse(400, "malformed"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				var url string
				next := s.ca.Client().Transport
				s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
					switch {
					case strings.HasSuffix(r.URL.Path, "/new-order"):
						return tt.order(r), nil
					case r.URL.String() == url && tt.lookUp != nil:
						return tt.lookUp(r), nil
					}
					return next.RoundTrip(r)
				}))
				acc, err := s.m.Get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				url = string(acc.URL)
				_, err = s.m.client(acc).AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
				err = s.m.Refused(t.Context(), acc, "a.example.com", acmeclient.Cause(err))
				if blamed := IsUnavailable(err); blamed != (tt.says != "") || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("the account is to blame: %v, want %v: %v", blamed, tt.says != "", err)
				}
			})
		})
	}
}

// Some CAs refuse to register a key that has an account, with a 409 that does
// not name it (RFC 8555, section 7.3.5, has that for a change of the key). It
// is looked up.
func TestAccountOfARefusedRegistrationIsLookedUp(t *testing.T) {
	for _, known := range []bool{true, false} {
		atSite(t, func(t *testing.T, s *site) {
			key := newKey(t)
			set := s.setup()
			set.key = key // which is not looked up before
			if known {
				s.restart(set)
				s.mustUse()
			}
			registrations := 0
			next := set.transport
			set.transport = onlyLookUps(roundTripper(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/new-account") {
					registrations++
					return problem(r, http.StatusConflict, "malformed"), nil
				}
				return next.RoundTrip(r)
			}), func(_ int, r *http.Request) *http.Response {
				res, err := next.RoundTrip(r)
				if err != nil {
					t.Error(err)
				}
				return res
			})
			s.restart(set)
			if err := s.m.use(t.Context()); (err == nil) != known {
				t.Errorf("the account exists: %v; use: %v", known, err)
			}
			if registrations == 0 {
				t.Error("no registration was tried")
			}
		})
	}
}

// The CA names the account by another URL after a change of its key. If it does
// not know the old key, that is the same account; otherwise it is not.
func TestAccountThatHasAnotherURLAfterAChangeOfItsKey(t *testing.T) {
	for _, changed := range []bool{true, false} {
		atSite(t, func(t *testing.T, s *site) {
			s.mustUse()
			next := s.ca.Client().Transport
			asked, lookUps := false, 0
			s.restartThrough(roundTripper(func(r *http.Request) (*http.Response, error) {
				switch path := r.URL.Path; {
				case strings.HasSuffix(path, "/key-change"):
					asked = true
					if !changed {
						return answer(r, 200, "application/json", "{}"), nil
					}
				case asked && strings.HasSuffix(path, "/new-account"):
					if lookUps++; lookUps == 1 {
						res := answer(r, 200, "application/json", `{"status":"valid"}`)
						res.Header.Set("Location", s.ca.URL+"/other")
						return res, nil
					}
				}
				return next.RoundTrip(r)
			}))
			err := s.m.ChangeKey(t.Context())
			switch {
			case changed && err != nil:
				t.Errorf("the key was changed: %v", err)
			case !changed && (err == nil || !strings.Contains(err.Error(), "another account")):
				t.Errorf("the key was not changed: %v", err)
			}
		})
	}
}
