package acmeclient

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func discover(t *testing.T, ca *CA) error {
	t.Helper()
	_, err := ca.Client(newKey(t), testKID).Discover(t.Context())
	return err
}

func TestDirectoryIsRefreshedAndKeptOnFailure(t *testing.T) {
	failures := map[string]func(*http.Request, int) (*http.Response, error){
		"5xx":     func(*http.Request, int) (*http.Response, error) { return response(503, ""), nil },
		"garbage": func(*http.Request, int) (*http.Response, error) { return response(200, "<html>"), nil },
		"broken":  func(*http.Request, int) (*http.Response, error) { return nil, errors.New("connection refused") },
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				ca := newTestCA(f)
				step := func(wait time.Duration, want int) {
					t.Helper()
					time.Sleep(wait)
					if err := discover(t, ca); err != nil {
						t.Error(err)
					}
					f.expect(t, "GET /dir", want)
				}
				step(0, 1)
				step(59*time.Minute, 1)
				step(2*time.Minute, 2) // outdated: fetched again
				healthy := f.answers["GET /dir"]
				f.answers["GET /dir"] = failure
				tries := 1
				if name == "broken" {
					tries = 2 // a lost connection is tried again
				}
				step(61*time.Minute, 2+tries) // fails: the old one is used
				step(time.Second, 2+tries)    // and not asked for again at once
				f.answers["GET /dir"] = healthy
				step(time.Minute, 3+tries)
			})
		})
	}
}

// One attempt waits for the refresh; the others need not.
func TestRefreshOfDirectoryBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		ca := newTestCA(f)
		if err := discover(t, ca); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		f.answers["GET /dir"] = func(req *http.Request, _ int) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		first := make(chan error, 1)
		go func() { first <- discover(t, ca) }()
		synctest.Wait()
		begun := time.Now()
		if err := discover(t, ca); err != nil || time.Since(begun) != 0 {
			t.Errorf("second attempt: %v after %s", err, time.Since(begun))
		}
		if err := <-first; err != nil || time.Since(begun) != 30*time.Second {
			t.Errorf("first attempt: %v after %s", err, time.Since(begun))
		}
	})
}

func TestWhatIsNoDirectoryIsNotKept(t *testing.T) {
	bodies := []string{"", "<html>", "[]", "null", "{}", `{"newOrder":""}`, `{"newOrder":1}`,
		`{"newOrder":"https://ca.test/new-order","meta":{"profiles":[]}}`}
	for _, body := range bodies {
		f := newFakeCA()
		f.reply("GET /dir", 200, body)
		ca := newTestCA(f)
		var trace Trace
		for range 2 {
			if _, err := ca.Client(nil, "").Discover(WithTrace(t.Context(), &trace)); err == nil {
				t.Errorf("%q was accepted", body)
			}
		}
		f.expect(t, "GET /dir", 2)
		if trace.Failed() != EndpointDirectory {
			t.Errorf("%q: failed %s, want directory", body, trace.Failed())
		}
	}
}

func TestForgottenDirectoryIsNotBroughtBack(t *testing.T) {
	f := newFakeCA()
	ca := newTestCA(f)
	healthy := f.answers["GET /dir"]
	f.answers["GET /dir"] = func(req *http.Request, n int) (*http.Response, error) {
		if n == 1 {
			ca.Forget() // while the request is under way
		}
		return healthy(req, n)
	}
	for range 3 {
		if err := discover(t, ca); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, "GET /dir", 2)
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
