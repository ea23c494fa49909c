package acmetest_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// matchFaults holds all faults that take a Match.
func matchFaults() map[string]func(s *acmetest.Server, m acmetest.Match) *acmetest.Fault {
	type server = *acmetest.Server
	type match = acmetest.Match
	return map[string]func(s server, m match) *acmetest.Fault{
		"Stall":       func(s server, m match) *acmetest.Fault { return s.Stall(m) },
		"Delay":       func(s server, m match) *acmetest.Fault { return s.Delay(m, time.Second) },
		"Drop":        func(s server, m match) *acmetest.Fault { return s.Drop(m) },
		"Truncate":    func(s server, m match) *acmetest.Fault { return s.Truncate(m) },
		"Status":      func(s server, m match) *acmetest.Fault { return s.Status(m, 503, nil, acmetest.Problem{}) },
		"Respond":     func(s server, m match) *acmetest.Fault { return s.Respond(m, 200, nil, "x") },
		"Garbage":     func(s server, m match) *acmetest.Fault { return s.Garbage(m) },
		"EndlessBody": func(s server, m match) *acmetest.Fault { return s.EndlessBody(m) },
		"Edit":        func(s server, m match) *acmetest.Fault { return s.Edit(m, func(r *acmetest.Reply) { r.Status = 599 }) },
	}
}

func TestFaultsForOneAccount(t *testing.T) {
	for name, fault := range matchFaults() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
				mine, other := newRawClient(t, s), newRawClient(t, s)
				mine.register()
				other.register()
				begun := fault(s, acmetest.Match{Account: mine.kid})
				time.AfterFunc(time.Minute, begun.Lift)
				for _, request := range []struct {
					name string
					do   func()
					want string
				}{
					{"the other account", func() { other.get(other.kid) }, ""},
					{"nobody", func() { send(t, s, http.MethodGet, s.URL) }, ""},
					{"a new account", func() { newRawClient(t, s).register() }, ""},
					{"the account", func() { _, _ = mine.try(post{url: mine.kid}) }, name},
				} {
					request.do()
					if got := lastRequest(s).Fault; got != request.want {
						t.Errorf("%s ran into %q, want %q", request.name, got, request.want)
					}
				}
			})
		})
	}
}

// An account is matched by its key identifier before anything is verified, and
// in newAccount by its key.
func TestHowARequestNamesItsAccount(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c, stranger := newRawClient(t, s), newRawClient(t, s)
	c.register()
	stranger.register()
	s.Status(acmetest.Match{Account: c.kid}, 503, nil, acmetest.Problem{})
	again := *c
	again.kid = ""
	stranger.kid = c.kid // but another key
	newAccount := post{url: c.endpoint("/new-account"), payload: "{}"}
	for _, tt := range []struct {
		name string
		got  answer
		want int
	}{
		{"its key identifier", c.do(post{url: c.kid}), 503},
		{"its key identifier, signed by someone else", stranger.do(post{url: c.kid}), 503},
		{"its key, which comes back", again.do(newAccount), 503},
		{"a key that is new", newRawClient(t, s).do(newAccount), 201},
		{"no JWS", c.do(post{url: c.kid, body: []byte("{}")}), 400},
		{"a jwk that is none", again.do(post{url: newAccount.url, payload: "{}", header: map[string]any{"jwk": "x"}}), 400},
	} {
		if tt.got.status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, tt.got.status, tt.got.body, tt.want)
		}
	}
	if n := s.CountAccount(acmetest.NewAccount, c.kid); n != 2 {
		t.Errorf("%d requests for newAccount counted, want the one that made it and the one that came back", n)
	}
	if err := s.WaitCount(t.Context(), acmetest.Match{Account: c.kid, After: 9, Count: 1}, 4); err != nil {
		t.Error(err)
	}
}

func TestFaultsBeginAfterSomeRequests(t *testing.T) {
	for name, fault := range matchFaults() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
				fault(s, acmetest.Match{Endpoint: acmetest.Directory, After: 2, Count: 2})
				for i, want := range []string{"", "", name, name, ""} {
					send(t, s, http.MethodHead, s.URL+"/other") // does not fit, so does not count
					_, _, _ = fetch(t, s, s.URL, time.Minute)
					synctest.Wait()
					if got := lastRequest(s).Fault; got != want {
						t.Errorf("request %d ran into %q, want %q", i+1, got, want)
					}
				}
			})
		})
	}
}

// After counts requests whatever happens to them, so faults can be put in
// sequence.
func TestAfterCountsRequestsThatOtherFaultsEnd(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	for i, status := range []int{500, 429, 503} {
		s.Respond(acmetest.Match{Endpoint: acmetest.Directory, After: i, Count: 1}, status, nil, "")
	}
	s.Edit(acmetest.Match{Endpoint: acmetest.Directory, After: 3, Count: 1}, func(r *acmetest.Reply) { r.Status = 203 })
	for i, want := range []int{500, 429, 503, 203, 200} {
		if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != want {
			t.Errorf("request %d: status %d, want %d", i+1, resp.StatusCode, want)
		}
	}
}

func TestAfterAndCountOfConcurrentRequests(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	var calls atomic.Int32
	s.Edit(acmetest.Match{After: 5, Count: 7}, func(*acmetest.Reply) { calls.Add(1) })
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() { send(t, s, http.MethodGet, s.URL) })
	}
	clients.Wait()
	if n := calls.Load(); n != 7 {
		t.Errorf("%d requests were hit, want 7", n)
	}
}
