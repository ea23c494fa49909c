package acmeclient

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestAttemptsShareDirectoryAndNonces(t *testing.T) {
	s := newSite(t)
	ca := s.ca(s.Client())
	for range 20 { // one client for each attempt
		if err := s.getOrder(t, ca); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(t, acmetest.Directory, 1)
	s.expect(t, acmetest.NewNonce, 1)
	s.expect(t, acmetest.Order, 20)
}

// x/crypto/acme holds mutexes while it asks for the directory, a nonce or the
// account. An attempt that hangs in one of them must not affect another.
func TestHungAttemptBlocksNoOther(t *testing.T) {
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewNonce, acmetest.NewAccount, acmetest.Order} {
		t.Run(string(endpoint), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				s.Stall(acmetest.Match{Endpoint: endpoint, Count: 1})
				ca := s.ca(s.Client())
				attempt := func() error {
					c := ca.Client(s.key, "")
					if _, err := c.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != acme.ErrAccountAlreadyExists {
						return err
					}
					_, err := c.GetOrder(t.Context(), s.order)
					return err
				}

				hung := make(chan error, 1)
				go func() { hung <- attempt() }()
				synctest.Wait()
				begun := time.Now()
				if err := attempt(); err != nil {
					t.Errorf("second attempt: %v", err)
				}
				if took := time.Since(begun); took != 0 {
					t.Errorf("second attempt took %s behind the first", took)
				}
				defer s.Stall(at(endpoint)).Lift() // the first one's retry hangs, too
				if err := <-hung; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("first attempt: %v, want its time-out", err)
				}
			})
		})
	}
}

func TestUsersClientIsHonouredAndNotChanged(t *testing.T) {
	s := newSite(t)
	s.Respond(at(acmetest.Unknown), 301, http.Header{"Location": {s.URL}, "Set-Cookie": {"seen=1; Path=/"}}, "")
	var cookie string
	user := s.through(s.order, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		cookie = req.Header.Get("Cookie")
		return next.RoundTrip(req)
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	user.Jar, user.Timeout = jar, time.Minute
	user.CheckRedirect = func(*http.Request, []*http.Request) error { asked++; return nil }
	before := *user
	ca := New(Config{DirectoryURL: s.URL + "/old", HTTPClient: user, UserAgent: "nostall-test"})
	if err := s.getOrder(t, ca); err != nil {
		t.Fatal(err)
	}
	if asked != 1 {
		t.Errorf("the user's CheckRedirect was asked %d times, want 1", asked)
	}
	if cookie != "seen=1" {
		t.Errorf("cookie of the user's jar: %q", cookie)
	}
	requests := s.Requests()
	if r := requests[len(requests)-1]; r.Endpoint != acmetest.Order || !strings.HasPrefix(r.UserAgent, "nostall-test ") {
		t.Errorf("%s has the User-Agent %q", r.Endpoint, r.UserAgent)
	}
	if reflect.ValueOf(user.Transport).Pointer() != reflect.ValueOf(before.Transport).Pointer() ||
		user.Jar != before.Jar || user.Timeout != before.Timeout ||
		reflect.ValueOf(user.CheckRedirect).Pointer() != reflect.ValueOf(before.CheckRedirect).Pointer() {
		t.Error("the user's client was changed")
	}
}

// The other tests run in memory; this one uses a real server and net/http's own
// transport.
func TestOverTLS(t *testing.T) {
	s := newSiteAt(t, acmetest.NewServer())
	user := *s.Client()
	user.Timeout = time.Minute
	ca := s.ca(&user)
	for range 3 {
		if err := s.getOrder(t, ca); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(t, acmetest.Directory, 1)
	s.expect(t, acmetest.NewNonce, 1)

	untrusting := s.ca(&http.Client{Transport: &http.Transport{}})
	var unknown x509.UnknownAuthorityError
	if err := s.discover(t, untrusting); !errors.As(err, &unknown) {
		t.Errorf("unknown CA certificate: %v", err)
	}
}

// A user's transport may return the same header again and again.
func TestConcurrentAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Delay(at(acmetest.Order), time.Second)
		shared := http.Header{"Retry-After": {"-1"}, "Link": {"<x>;rel=index"}}
		ca := s.ca(s.through(s.URL, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err == nil {
				res.Header = shared
			}
			return res, err
		}))
		const attempts = 50
		errs := make(chan error, attempts)
		begun := time.Now()
		for range attempts {
			go func() { errs <- s.getOrder(t, ca) }()
		}
		for range attempts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		// Some wait for a nonce, which is requested at a pace.
		if took, paced := time.Since(begun), (attempts-nonceBurst)*nonceEvery; took > time.Second+paced {
			t.Errorf("took %s, want that of one request, and the wait for nonces", took)
		}
		if got := shared.Get("Retry-After"); got != "-1" {
			t.Errorf("the user's header was changed to %q", got)
		}
		if _, left := ca.nonces.pop(time.Now()); !left {
			t.Error("no nonces were kept")
		}
	})
}

func TestForgetAsksTheCAAgain(t *testing.T) {
	s := newSite(t)
	ca := s.ca(s.Client())
	for range 2 {
		if err := s.getOrder(t, ca); err != nil {
			t.Fatal(err)
		}
		ca.Forget()
	}
	s.expect(t, acmetest.Directory, 2)
	s.expect(t, acmetest.NewNonce, 2)
}

func TestZeroConfig(t *testing.T) {
	ca := New(Config{})
	c := ca.Client(nil, "")
	if c.DirectoryURL != acme.LetsEncryptURL {
		t.Errorf("directory: %s", c.DirectoryURL)
	}
	if ca.cfg.BodyLimit != 256<<10 {
		t.Errorf("default: %d bytes", ca.cfg.BodyLimit)
	}
}
