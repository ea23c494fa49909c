package order

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func withProfiles(ca *acmetest.Server) {
	ca.Profiles, ca.DefaultProfile = acmetest.LetsEncryptProfiles(), "classic"
}

// The result has the profile that the CA says, also of an order that asked for
// none.
func TestOrderHasItsProfile(t *testing.T) {
	for asked, want := range map[string]string{"tlsserver": "tlsserver", "": "classic"} {
		t.Run("asked for "+asked, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				req := s.request()
				req.Profile = func(context.Context) (string, error) { return asked, nil }
				res := s.must(req)
				if orders := s.ca.Orders(); len(orders) != 1 || orders[0].Profile != want || res.Profile != want {
					t.Errorf("the order has the profile %q, the result %q", orders[0].Profile, res.Profile)
				}
			}, withProfiles)
		})
	}
}

// Without a profile to ask for, no order is placed or counted.
func TestOrderWhoseProfileIsRefusedHereIsNotPlaced(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		bad := errors.New("no such profile")
		req := s.request()
		req.Profile = func(context.Context) (string, error) { return "", bad }
		req.Order = func(bool) (func(bool, error), error) {
			t.Error("the order was counted")
			return func(bool, error) {}, nil
		}
		if _, err := s.run(req); !errors.Is(err, bad) {
			t.Errorf("the error is %v", err)
		}
		if n := s.ca.Count(acmetest.NewOrder); n > 0 {
			t.Errorf("%d orders", n)
		}
	})
}

// An order that is resumed keeps its profile, whatever is asked for now.
func TestResumedOrderKeepsItsProfile(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		fault := s.ca.Drop(acmetest.Match{Endpoint: acmetest.Certificate})
		req := s.request()
		req.Profile = func(context.Context) (string, error) { return "tlsserver", nil }
		if _, err := s.run(req); err == nil {
			t.Fatal("no fault")
		}
		fault.Lift()
		req = s.request()
		req.Unfinished = s.kept
		req.Profile = func(context.Context) (string, error) { return "shortlived", nil }
		if res := s.must(req); res.Profile != "tlsserver" {
			t.Errorf("its profile is %q", res.Profile)
		}
		if n := s.ca.Count(acmetest.NewOrder); n != 1 {
			t.Errorf("%d orders", n)
		}
	}, withProfiles)
}

func TestNameOfAProfileIsBounded(t *testing.T) {
	long := make([]byte, 10_000)
	for i := range long {
		long[i] = '\n'
	}
	c := new(conversation)
	c.noteProfile(&acme.Order{Profile: acme.ProfileName(long)})
	if n := len(c.res.Profile); n == 0 || n > 64 {
		t.Errorf("it has %d bytes", n)
	}
}

func TestMaxNames(t *testing.T) {
	for profile, want := range map[string]int{"": 100, "classic": 100, "tlsserver": 25, "shortlived": 25, "other": 100} {
		if got := MaxNames(profile); got != want {
			t.Errorf("%q: %d, want %d", profile, got, want)
		}
	}
	for name, p := range acmetest.LetsEncryptProfiles() {
		if got := MaxNames(name); got != p.MaxNames {
			t.Errorf("%s: %d, and acmetest has %d", name, got, p.MaxNames)
		}
	}
}
