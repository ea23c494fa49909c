package acmeclient

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestDirectoryIsRefreshedAndKeptOnFailure(t *testing.T) {
	failures := map[string]struct {
		begin func(*site) (lift func())
		tries int
	}{
		"5xx": {func(s *site) func() {
			return s.Status(at(acmetest.Directory), 503, nil, acmetest.Problem{}).Lift
		}, 1},
		"garbage": {func(s *site) func() { return s.Garbage(at(acmetest.Directory)).Lift }, 1},
		"HTML": {func(s *site) func() {
			return s.Respond(at(acmetest.Directory), 200, nil, "<html>").Lift
		}, 1},
		"broken": {func(s *site) func() { return s.Drop(at(acmetest.Directory)).Lift }, 1},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				ca := s.ca(s.Client())
				step := func(wait time.Duration, want int) {
					t.Helper()
					time.Sleep(wait)
					if err := s.discover(t, ca); err != nil {
						t.Error(err)
					}
					s.expect(t, acmetest.Directory, want)
				}
				step(0, 1)
				step(59*time.Minute, 1)
				step(2*time.Minute, 2) // outdated: fetched again
				lift := failure.begin(s)
				step(61*time.Minute, 2+failure.tries) // fails: the old one is used
				step(time.Second, 2+failure.tries)    // and not asked for again at once
				lift()
				step(time.Minute, 3+failure.tries)
			})
		})
	}
}

// One attempt waits for the refresh; the others do not.
func TestRefreshOfDirectoryBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.Client())
		if err := s.discover(t, ca); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		s.Stall(at(acmetest.Directory))
		first := make(chan error, 1)
		go func() { first <- s.discover(t, ca) }()
		synctest.Wait()
		begun := time.Now()
		if err := s.discover(t, ca); err != nil || time.Since(begun) != 0 {
			t.Errorf("second attempt: %v after %s", err, time.Since(begun))
		}
		if err := <-first; err != nil || time.Since(begun) != readTimeout {
			t.Errorf("first attempt: %v after %s", err, time.Since(begun))
		}
	})
}

func TestWhatIsNoDirectoryIsNotKept(t *testing.T) {
	bodies := []string{"", "<html>", "[]", "null", "{}", `{"newOrder":""}`, `{"newOrder":1}`,
		`{"newOrder":"https://ca.test/new-order","meta":{"profiles":[]}}`}
	for _, body := range bodies {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.Respond(at(acmetest.Directory), 200, nil, body)
			ca := s.ca(s.Client())
			var trace Trace
			for range 2 {
				if _, err := ca.Client(nil, "").Discover(WithTrace(t.Context(), &trace)); err == nil {
					t.Errorf("%q was accepted", body)
				}
			}
			want := 2
			if !json.Valid([]byte(body)) { // it may be an accident
				want = 4
			}
			s.expect(t, acmetest.Directory, want)
			if trace.Failed() != EndpointDirectory {
				t.Errorf("%q: failed %s, want directory", body, trace.Failed())
			}
		})
	}
}

func TestForgottenDirectoryIsNotBroughtBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.Client())
		fault := s.Stall(at(acmetest.Directory))
		first := make(chan error, 1)
		go func() { first <- s.discover(t, ca) }()
		synctest.Wait()
		ca.Forget() // while the request is under way
		fault.Lift()
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.discover(t, ca); err != nil {
				t.Fatal(err)
			}
		}
		s.expect(t, acmetest.Directory, 2)
	})
}

func TestNoncePool(t *testing.T) {
	now := time.Now()
	pop := func(t *testing.T, p *noncePool, at time.Time, want string) {
		t.Helper()
		if got, ok := p.pop(at); got != want || ok != (want != "") {
			t.Errorf("pop: %q, %t; want %q", got, ok, want)
		}
	}
	t.Run("youngest first, oldest dropped", func(t *testing.T) {
		var p noncePool
		for i := range maxNonces + 10 {
			p.push(fmt.Sprint(i), now)
		}
		for i := maxNonces + 9; i >= 10; i-- {
			pop(t, &p, now, fmt.Sprint(i))
		}
		pop(t, &p, now, "")
	})
	t.Run("old ones dropped", func(t *testing.T) {
		var p noncePool
		p.push("a", now)
		p.push("b", now.Add(time.Minute))
		pop(t, &p, now.Add(maxNonceAge+time.Minute), "b")
		pop(t, &p, now.Add(maxNonceAge+time.Minute), "")
	})
	t.Run("a nonce works once", func(t *testing.T) {
		var p noncePool
		for _, v := range []string{"a", "a", "", "a b", "a\x00", "ä", string(make([]byte, maxNonceLen+1))} {
			p.push(v, now)
		}
		pop(t, &p, now, "a")
		pop(t, &p, now, "")
	})
}
