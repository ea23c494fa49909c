package acmetest_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// TestReplyToAcceptedChallenge: the reply comes at once and says "processing",
// or waits for the validation and tells its result.
func TestReplyToAcceptedChallenge(t *testing.T) {
	const takes = 3 * time.Second
	for _, test := range []struct {
		name    string
		inReply acmetest.When
		right   bool // is the host's answer
		status  string
		after   time.Duration
	}{
		{"at once", acmetest.Never, true, "processing", 0},
		{"after a success", acmetest.Always, true, "valid", takes},
		{"after a failure", acmetest.ByDefault, false, "invalid", takes},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewUnstartedServer()
				s.ValidateInReply = test.inReply
				s.StartMemory()
				defer s.Close()
				c := newRawClient(t, s)
				c.register()
				right := keyAuthorizer(t, c.key)
				s.Resolve("www.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(takes) // in the bubble
					if test.right {
						right.ServeHTTP(w, r)
					} else {
						_, _ = io.WriteString(w, "something else")
					}
				})})
				_, o := c.order("www.example.com")
				u := c.get(o.authorizations()[0]).challenge("http-01")
				began := time.Now()
				a := c.do(post{url: u, payload: "{}"})
				if got := time.Since(began); a.str("status") != test.status || got != test.after {
					t.Errorf("%q after %v, want %q after %v", a.str("status"), got, test.status, test.after)
				}
				// Reading a challenge never waits.
				began = time.Now()
				if c.get(u); time.Since(began) != 0 {
					t.Errorf("a POST-as-GET took %v", time.Since(began))
				}
			})
		})
	}
}

// TestCloseEndsReplyThatWaitsForValidation: Close does not wait for a host that
// does not answer.
func TestCloseEndsReplyThatWaitsForValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		s.ValidateInReply = acmetest.Always
		s.StartMemory()
		c := newRawClient(t, s)
		c.register()
		asked := make(chan struct{})
		s.Resolve("www.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		})})
		_, o := c.order("www.example.com")
		u := c.get(o.authorizations()[0]).challenge("http-01")
		go func() {
			<-asked
			s.Close()
		}()
		body := bytes.NewReader(c.sign(post{url: u, payload: "{}"}))
		began := time.Now()
		res, err := s.Client().Post(u, "application/jose+json", body)
		if err == nil { // the reply may have been faster
			res.Body.Close()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the request lasted %v longer than the server", took)
		}
	})
}
