package acmeclient

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

func TestAttemptsShareDirectoryAndNonces(t *testing.T) {
	f := newFakeCA()
	ca := newTestCA(f)
	key := newKey(t)
	for range 20 { // one client for each attempt
		if _, err := ca.Client(key, testKID).GetOrder(t.Context(), testOrder); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, "GET /dir", 1)
	f.expect(t, "HEAD /nonce", 1)
	f.expect(t, "POST /order/1", 20)
}

// x/crypto/acme holds mutexes while it asks for the directory, a nonce or the account.
// An attempt that hangs in one of them must not be felt by another.
func TestHungAttemptBlocksNoOther(t *testing.T) {
	for _, endpoint := range []string{"GET /dir", "HEAD /nonce", "POST /new-account", "POST /order/1"} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				healthy := f.answers[endpoint]
				f.answers[endpoint] = func(req *http.Request, n int) (*http.Response, error) {
					if n == 1 {
						<-req.Context().Done()
						return nil, req.Context().Err()
					}
					if healthy == nil {
						return response(200, ""), nil
					}
					return healthy(req, n)
				}
				ca := newTestCA(f)
				key := newKey(t)
				attempt := func() error {
					c := ca.Client(key, "")
					if _, err := c.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
						return err
					}
					_, err := c.GetOrder(t.Context(), testOrder)
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
				if err := <-hung; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("first attempt: %v, want its time-out", err)
				}
			})
		})
	}
}

func TestUsersClientIsHonouredAndNotChanged(t *testing.T) {
	f := newFakeCA()
	f.answers["GET /old"] = func(*http.Request, int) (*http.Response, error) {
		return response(301, "", "Location", testDirectory, "Set-Cookie", "seen=1; Path=/"), nil
	}
	var agent, cookie string
	f.answers["POST /order/1"] = func(req *http.Request, _ int) (*http.Response, error) {
		agent, cookie = req.Header.Get("User-Agent"), req.Header.Get("Cookie")
		return response(200, validOrder), nil
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	user := &http.Client{Transport: f, Jar: jar, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil }}
	before := *user
	ca := New(Config{DirectoryURL: testBase + "/old", HTTPClient: user, UserAgent: "nostall-test"})
	if _, err := ca.Client(newKey(t), testKID).GetOrder(t.Context(), testOrder); err != nil {
		t.Fatal(err)
	}
	if asked != 1 {
		t.Errorf("the user's CheckRedirect was asked %d times, want 1", asked)
	}
	if cookie != "seen=1" {
		t.Errorf("cookie of the user's jar: %q", cookie)
	}
	if len(agent) < 12 || agent[:12] != "nostall-test" {
		t.Errorf("User-Agent: %q", agent)
	}
	if user.Transport != before.Transport || user.Jar != before.Jar || user.Timeout != before.Timeout ||
		reflect.ValueOf(user.CheckRedirect).Pointer() != reflect.ValueOf(before.CheckRedirect).Pointer() {
		t.Error("the user's client was changed")
	}
}

// The other tests run in memory; this one shows that a real server and net/http's own
// transport fit.
func TestOverTLS(t *testing.T) {
	f := newFakeCA()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, err := f.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		maps.Copy(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		body, _ := io.ReadAll(res.Body)
		_, _ = w.Write(bytes.ReplaceAll(body, []byte(testBase), []byte("https://"+r.Host)))
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails below
	srv.StartTLS()
	defer srv.Close()
	client := srv.Client()
	client.Timeout = time.Minute
	ca := New(Config{DirectoryURL: srv.URL + "/dir", HTTPClient: client})
	for range 3 {
		if _, err := ca.Client(newKey(t), testKID).GetOrder(t.Context(), srv.URL+"/order/1"); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, "GET /dir", 1)
	f.expect(t, "HEAD /nonce", 1)

	untrusting := New(Config{DirectoryURL: srv.URL + "/dir", HTTPClient: &http.Client{Transport: &http.Transport{}}})
	var unknown x509.UnknownAuthorityError
	_, err := untrusting.Client(newKey(t), testKID).Discover(t.Context())
	if !errors.As(err, &unknown) {
		t.Errorf("unknown CA certificate: %v", err)
	}
}

// A transport of the user's may hand out the same header again and again.
func TestConcurrentAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		shared := http.Header{"Retry-After": {"-1"}, "Link": {"<x>;rel=index"}}
		f.answers["GET /dir"] = func(*http.Request, int) (*http.Response, error) {
			res := response(200, directoryJSON)
			res.Header = shared
			return res, nil
		}
		f.answers["POST /order/1"] = func(*http.Request, int) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(200, validOrder), nil
		}
		ca := newTestCA(f)
		key := newKey(t)
		const attempts = 50
		errs := make(chan error, attempts)
		begun := time.Now()
		for range attempts {
			go func() {
				_, err := ca.Client(key, testKID).GetOrder(t.Context(), testOrder)
				errs <- err
			}()
		}
		for range attempts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("took %s, want that of one request", took)
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
	f := newFakeCA()
	ca := newTestCA(f)
	key := newKey(t)
	for range 2 {
		if _, err := ca.Client(key, testKID).GetOrder(t.Context(), testOrder); err != nil {
			t.Fatal(err)
		}
		ca.Forget()
	}
	f.expect(t, "GET /dir", 2)
	f.expect(t, "HEAD /nonce", 2)
}

func TestZeroConfig(t *testing.T) {
	ca := New(Config{})
	c := ca.Client(nil, "")
	if c.DirectoryURL != acme.LetsEncryptURL {
		t.Errorf("directory: %s", c.DirectoryURL)
	}
	if ca.cfg.RequestTimeout != 30*time.Second || ca.cfg.BodyLimit != 1<<20 {
		t.Errorf("defaults: %s, %d bytes", ca.cfg.RequestTimeout, ca.cfg.BodyLimit)
	}
}
