package acmeclient

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// The profile stays in an order that is signed again with replaces, and in one
// that is placed again without it.
func TestProfileStaysInAnOrderWithReplaces(t *testing.T) {
	server := acmetest.NewUnstartedServer()
	server.Profiles = acmetest.LetsEncryptProfiles()
	server.Start()
	defer server.Close()
	ca := New(Config{DirectoryURL: server.URL, HTTPClient: server.Client()})
	leaf, client := issueFor(t, server, ca, newKey(t))
	for _, replaces := range []string{CertID(leaf), ""} { // it can be replaced once
		order, _, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "shortlived", CertID(leaf))
		if err != nil {
			t.Fatalf("%v\n%v", err, server)
		}
		orders := server.Orders()
		if last := orders[len(orders)-1]; last.Profile != "shortlived" || order.Profile != "shortlived" || last.Replaces != replaces {
			t.Errorf("the order has the profile %q and replaces %q", last.Profile, last.Replaces)
		}
	}
}

// The profiles are those of the directory as it was last fetched. To read it again
// is one request, and a failure leaves it as it is.
func TestProfilesOfTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.Client())
		if p := ca.Profiles(); p.Known || p.Has("") || len(p.Names()) > 0 {
			t.Errorf("before the first request: %+v", p)
		}
		edit := s.Edit(at(acmetest.Directory), func(r *acmetest.Reply) {
			r.EditObject(func(dir map[string]any) {
				dir["meta"] = map[string]any{"profiles": map[string]any{"one": "", "two": ""}}
			})
		})
		read := func(want int, names ...string) {
			t.Helper()
			err := ReadDirectory(t.Context(), ca)
			s.expect(t, acmetest.Directory, want)
			if p := ca.Profiles(); !p.Known || !slices.Equal(p.Names(), names) || len(names) > 0 && !p.Has(names[0]) {
				t.Errorf("%v: %v", p.Names(), err)
			}
		}
		read(1, "one", "two")
		begun := ca.Profiles().At
		time.Sleep(time.Minute)
		fault := s.Status(at(acmetest.Directory), 503, nil, acmetest.Problem{})
		read(2, "one", "two")
		if at := ca.Profiles().At; !at.Equal(begun) {
			t.Errorf("it was not fetched at %s", at)
		}
		fault.Lift()
		edit.Lift()
		read(3)
		if at := ca.Profiles().At; !at.After(begun) {
			t.Errorf("it was fetched later than %s", at)
		}
	})
}

func TestProblemsAboutAProfile(t *testing.T) {
	for _, tt := range []struct {
		problem acme.Error
		want    bool
	}{
		{acme.Error{ProblemType: "urn:ietf:params:acme:error:invalidProfile"}, true},
		{acme.Error{ProblemType: "urn:ietf:params:acme:error:unauthorized",
			Detail: `account ID 1 is not permitted to use certificate profile "shortlived"`}, true},
		{acme.Error{ProblemType: "urn:ietf:params:acme:error:unauthorized", Detail: "not your profile"}, false},
		{acme.Error{ProblemType: "urn:ietf:params:acme:error:malformed", Detail: "invalidProfile"}, false},
	} {
		if got := IsBadProfile(&tt.problem); got != tt.want {
			t.Errorf("%v: %t", tt.problem, got)
		}
	}
}
