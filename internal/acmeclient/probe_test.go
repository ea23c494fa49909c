package acmeclient

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A probe is one request, whatever comes of it: for the directory first, and for
// a nonce once that is known. Both serve what comes next.
func TestProbeIsOneRequestThatServesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.Client())
		if err := Probe(t.Context(), ca); err != nil {
			t.Fatal(err)
		}
		s.expect(t, acmetest.Directory, 1)
		s.expect(t, acmetest.NewNonce, 0)
		if err := Probe(t.Context(), ca); err != nil {
			t.Fatal(err)
		}
		s.expect(t, acmetest.Directory, 1)
		s.expect(t, acmetest.NewNonce, 1)
		if err := s.getOrder(t, ca); err != nil {
			t.Fatal(err)
		}
		s.expect(t, acmetest.Directory, 1)
		s.expect(t, acmetest.NewNonce, 1)
	})
}

func TestProbeTellsWhatFails(t *testing.T) {
	faults := []struct {
		name   string
		begin  func(*acmetest.Server, acmetest.Match)
		status int // of the problem; 0 if there was no usable response
	}{
		{"dropped", func(ca *acmetest.Server, m acmetest.Match) { ca.Drop(m) }, 0},
		{"silence", func(ca *acmetest.Server, m acmetest.Match) { ca.Stall(m) }, 0},
		{"garbage", func(ca *acmetest.Server, m acmetest.Match) {
			ca.Respond(m, 200, http.Header{"Replay-Nonce": nil}, "<html>")
		}, 0},
		{"500", func(ca *acmetest.Server, m acmetest.Match) { ca.Status(m, 500, nil, acmetest.Problem{}) }, 500},
		{"503", func(ca *acmetest.Server, m acmetest.Match) {
			ca.Status(m, 503, http.Header{"Retry-After": {"70"}}, acmetest.Problem{})
		}, 503},
		{"429", func(ca *acmetest.Server, m acmetest.Match) { ca.Status(m, 429, nil, acmetest.Problem{}) }, 429},
		{"404", func(ca *acmetest.Server, m acmetest.Match) { ca.Status(m, 404, nil, acmetest.Problem{}) }, 404},
	}
	for _, f := range faults {
		for _, e := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewNonce} {
			t.Run(f.name+"/"+string(e), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t)
					ca := s.ca(s.Client())
					if e == acmetest.NewNonce {
						if err := s.discover(t, ca); err != nil {
							t.Fatal(err)
						}
					}
					f.begin(s.Server, at(e))
					before := s.Server.Count(acmetest.Any)
					err := Probe(t.Context(), ca)
					if n := s.Server.Count(acmetest.Any) - before; err == nil || n != 1 {
						t.Fatalf("%d requests, want 1, and %v, want an error", n, err)
					}
					problem, _ := errors.AsType[*acme.Error](err)
					_, lost := errors.AsType[*RequestError](err)
					switch {
					case f.status == 0 && !lost, f.status != 0 && (problem == nil || problem.StatusCode != f.status):
						t.Errorf("got %v (%T)", err, err)
					case f.name == "503" && problem.Header.Get("Retry-After") != "70":
						t.Errorf("the Retry-After is lost: %v", problem.Header)
					}
				})
			})
		}
	}
}

// A CA whose nonces are elsewhere now is asked for its directory.
func TestProbeOfACAThatHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.Client())
		if err := s.discover(t, ca); err != nil {
			t.Fatal(err)
		}
		s.Server.Status(at(acmetest.NewNonce), 404, nil, acmetest.Problem{})
		if err := Probe(t.Context(), ca); err == nil {
			t.Error("no error")
		}
		if err := Probe(t.Context(), ca); err != nil {
			t.Error(err)
		}
		s.expect(t, acmetest.Directory, 2)
	})
}
