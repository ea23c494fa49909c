package askpolicy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/askpolicy"
)

// newPolicy returns a Policy that is closed at the end of the test.
func newPolicy(t *testing.T, endpoint string, o *askpolicy.Options) *askpolicy.Policy {
	t.Helper()
	p, err := askpolicy.New(endpoint, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Only 2xx is a yes; what cannot be an answer is no refusal.
func TestStatus(t *testing.T) {
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("the method is %s", r.Method)
		}
		if r.URL.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	defer server.Close()
	p := newPolicy(t, server.URL+"/ask", &askpolicy.Options{Remember: -1})
	for status, want := range map[int]error{
		200: nil, 202: nil, 299: nil,
		400: certmgr.ErrHostNotAllowed, 401: certmgr.ErrHostNotAllowed, 403: certmgr.ErrHostNotAllowed,
		404: certmgr.ErrHostNotAllowed, 410: certmgr.ErrHostNotAllowed, 499: certmgr.ErrHostNotAllowed,
		301: certmgr.ErrPolicy, 302: certmgr.ErrPolicy, 304: certmgr.ErrPolicy, 308: certmgr.ErrPolicy,
		408: certmgr.ErrPolicy, 425: certmgr.ErrPolicy, 429: certmgr.ErrPolicy,
		500: certmgr.ErrPolicy, 502: certmgr.ErrPolicy, 503: certmgr.ErrPolicy, 599: certmgr.ErrPolicy,
	} {
		code = status
		err := p.Allow(t.Context(), "shop.example.com")
		if want == nil && err != nil || !errors.Is(err, want) || errors.Is(err, certmgr.ErrPolicy) && want != certmgr.ErrPolicy {
			t.Errorf("%d: %v, want %v", status, err, want)
		}
		if err != nil && (!strings.Contains(err.Error(), "shop.example.com") || !strings.Contains(err.Error(), fmt.Sprint(status))) {
			t.Errorf("%d: the error does not say what happened: %v", status, err)
		}
	}
}

// A name is data, and what the endpoint's URL has stays.
func TestQuestion(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer server.Close()
	endpoint := strings.Replace(server.URL, "://", "://user:secret@", 1) + "/a%2Fb?token=x+y&domain=other#part"
	p := newPolicy(t, endpoint, nil)
	for _, host := range []string{"shop.example.com", "a&token=z", "a=b;c d#%00\n\x00é", "xn--e1afmkfd.example"} {
		if err := p.Allow(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		q := got.URL.Query()
		if q.Get("domain") != host || len(q["domain"]) != 1 || len(q["token"]) != 1 || q.Get("token") != "x y" || got.URL.EscapedPath() != "/a%2Fb" {
			t.Errorf("%q: the request is for %s", host, got.RequestURI)
		}
		if user, pass, _ := got.BasicAuth(); user != "user" || pass != "secret" {
			t.Errorf("the user is %q, %q", user, pass)
		}
	}
	got = nil
	for _, host := range []string{"", strings.Repeat("a", 254)} {
		if err := p.Allow(t.Context(), host); !errors.Is(err, certmgr.ErrHostNotAllowed) || got != nil {
			t.Errorf("a name of %d bytes: %v", len(host), err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"https://app.example/ask":       true,
		"http://localhost:8080/ask":     true,
		"http://127.0.0.1/ask":          true,
		"http://127.1.2.3/ask":          true,
		"http://[::1]:8080/ask":         true,
		"http://app.example/ask":        false,
		"http://localhost.example/ask":  false,
		"http://192.168.0.1/ask":        false,
		"":                              false,
		"/ask":                          false,
		"app.example/ask":               false,
		"localhost:8080":                false,
		"ftp://app.example/ask":         false,
		"https://user:secret@%zz/":      false,
		"http://user:secret@192.0.2.1/": false,
	} {
		p, err := askpolicy.New(endpoint, nil)
		if ok != (err == nil) {
			t.Errorf("%q: %v", endpoint, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells a password: %v", err)
		}
		if p != nil {
			p.Close()
		}
	}
	if _, err := askpolicy.New("http://192.168.0.1/ask", &askpolicy.Options{PlainHTTP: true}); err != nil {
		t.Error(err)
	}
}

// No error tells the secrets of the URL.
func TestErrorsHaveNoSecret(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	endpoint := strings.Replace(server.URL, "://", "://user:secret@", 1) + "/ask?token=secret"
	p := newPolicy(t, endpoint, nil)
	no := p.Allow(t.Context(), "a.example.com")
	server.Close()
	failed := p.Allow(t.Context(), "a.example.com")
	if !errors.Is(no, certmgr.ErrHostNotAllowed) || !errors.Is(failed, certmgr.ErrPolicy) {
		t.Fatalf("%v; %v", no, failed)
	}
	for _, err := range []error{no, failed} {
		if s := err.Error(); strings.Contains(s, "secret") || !strings.Contains(s, server.URL+"/ask") {
			t.Errorf("the error is %q", s)
		}
	}
}

// transport is a RoundTripper in a bubble.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(code int) *http.Response {
	return &http.Response{StatusCode: code, Body: http.NoBody, Header: make(http.Header)}
}

// asked counts the questions, and answers them as told.
type asked struct {
	mu   sync.Mutex
	n    int
	code int
	wait time.Duration
	do   func(r *http.Request)
}

func (a *asked) client() *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		a.mu.Lock()
		a.n++
		code, wait, do := a.code, a.wait, a.do
		a.mu.Unlock()
		if do != nil {
			do(r)
		}
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		select {
		case <-time.After(wait):
			return reply(code), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})}
}

func (a *asked) want(t *testing.T, what string, n int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n != n {
		t.Errorf("%s: %d questions, want %d", what, a.n, n)
	}
	a.n = 0
}

// A yes is remembered for its time and within its bound, a no never is.
func TestOnlyAYesIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{code: 200}
		p := newPolicy(t, "https://app.example/ask", &askpolicy.Options{Client: a.client(), MaxRemembered: 3})
		allow := func(host string) error { return p.Allow(t.Context(), host) }
		for range 3 {
			allow("a.example.com")
		}
		a.want(t, "yes", 1)
		time.Sleep(time.Minute)
		a.code = 404
		if err := allow("a.example.com"); !errors.Is(err, certmgr.ErrHostNotAllowed) {
			t.Errorf("after its time: %v", err)
		}
		allow("a.example.com")
		a.want(t, "no", 2)
		a.code = 500
		allow("a.example.com")
		allow("a.example.com")
		a.want(t, "no answer", 2)
		a.code = 200
		for i := range 100 {
			allow(fmt.Sprintf("h%d.example.com", i))
		}
		a.want(t, "a hundred names", 100)
		for i := range 100 {
			allow(fmt.Sprintf("h%d.example.com", i))
		}
		if a.n < 97 {
			t.Errorf("%d names were remembered", 100-a.n)
		}
		for name, o := range map[string]askpolicy.Options{"age": {Remember: -1}, "number": {MaxRemembered: -1}} {
			a.n, o.Client = 0, a.client()
			p := newPolicy(t, "https://app.example/ask", &o)
			p.Allow(t.Context(), "a.example.com")
			p.Allow(t.Context(), "a.example.com")
			a.want(t, "off by "+name, 2)
		}
	})
}

// Questions about one name at the same time are one, and a caller that leaves
// ends only its own wait.
func TestQuestionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{code: 200, wait: 3 * time.Second}
		p := newPolicy(t, "https://app.example/ask", &askpolicy.Options{Client: a.client()})
		begun := time.Now()
		left, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if err := p.Allow(left, "a.example.com"); !errors.Is(err, certmgr.ErrPolicy) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("the first caller got %v after %v", err, time.Since(begun))
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := p.Allow(t.Context(), "a.example.com"); err != nil || time.Since(begun) != 3*time.Second {
					t.Errorf("another got %v after %v", err, time.Since(begun))
				}
			})
		}
		wg.Wait()
		a.want(t, "a hundred and one", 1)
	})
}

// An endpoint that does not answer is no refusal, nor a client that panics, and
// no question lasts longer than its time.
func TestNoAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(r *http.Request)
		took time.Duration
	}{
		"slow":                {do: func(r *http.Request) { <-r.Context().Done() }, took: 4 * time.Second},
		"ignores its context": {do: func(*http.Request) { time.Sleep(time.Minute) }, took: 4*time.Second + 100*time.Millisecond},
		"panic":               {do: func(*http.Request) { panic("boom") }},
		"Goexit":              {do: func(*http.Request) { runtime.Goexit() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &asked{code: 200, do: test.do}
				p, err := askpolicy.New("https://app.example/ask", &askpolicy.Options{Client: a.client()})
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				err = p.Allow(t.Context(), "a.example.com")
				if !errors.Is(err, certmgr.ErrPolicy) || time.Since(begun) != test.took {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				time.Sleep(time.Hour)
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if err := p.Allow(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrPolicy) {
					t.Errorf("after Close: %v", err)
				}
			})
		})
	}
}

// Close ends a question that is under way.
func TestCloseEndsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{code: 200, wait: time.Hour}
		p := newPolicy(t, "https://app.example/ask", &askpolicy.Options{Client: a.client()})
		done := make(chan error)
		go func() { done <- p.Allow(t.Context(), "a.example.com") }()
		synctest.Wait()
		begun := time.Now()
		p.Close()
		if err := <-done; !errors.Is(err, certmgr.ErrPolicy) || time.Since(begun) != 0 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// A client of the user's is not changed, and its redirects are not followed.
func TestClientOfTheUser(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ask" {
			http.Redirect(w, r, "/yes", http.StatusFound)
		}
	}))
	defer server.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	p := newPolicy(t, server.URL+"/ask", &askpolicy.Options{Client: client})
	err := p.Allow(t.Context(), "a.example.com")
	if !errors.Is(err, certmgr.ErrPolicy) || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Errorf("got %v", err)
	}
	if client.CheckRedirect(nil, nil) != nil {
		t.Error("the client was changed")
	}
}
