package acmeclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// readFunc is a body from a function.
type readFunc struct {
	read   func([]byte) (int, error)
	closed chan struct{} // closed by Close, if not nil
}

func (r readFunc) Read(p []byte) (int, error) { return r.read(p) }

func (r readFunc) Close() error {
	if r.closed != nil {
		close(r.closed)
	}
	return nil
}

// transportFunc is the behaviour of a user's transport for some requests.
type transportFunc = func(next http.RoundTripper, req *http.Request) (*http.Response, error)

// deaf sends a request whose context cannot end, calls wait, and only then
// returns the reply.
func deaf(wait func()) transportFunc {
	return func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(req.WithContext(context.WithoutCancel(req.Context())))
		wait()
		return res, err
	}
}

// withBody replaces the bodies of replies.
func withBody(body io.ReadCloser) transportFunc {
	return func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(req)
		if err == nil {
			res.Body.Close()
			res.Body = body
		}
		return res, err
	}
}

// hanging are user's clients that do not answer a request for the order. Those
// that ignore the context end with release.
func hanging(release chan struct{}) map[string]func(s *site) *http.Client {
	through := func(f transportFunc) func(s *site) *http.Client {
		return func(s *site) *http.Client { return s.through(s.order, f) }
	}
	return map[string]func(s *site) *http.Client{
		"no answer": func(s *site) *http.Client {
			s.Stall(at(acmetest.Order))
			return s.Client()
		},
		"transport ignores its context": through(deaf(func() { <-release })),
		"body never ends, slowly": through(withBody(readFunc{read: func(p []byte) (int, error) {
			time.Sleep(time.Second)
			p[0] = ' '
			return 1, nil
		}})),
		"body blocks": through(withBody(readFunc{read: func([]byte) (int, error) {
			<-release
			return 0, io.EOF
		}})),
	}
}

func TestRequestTimeout(t *testing.T) {
	for name := range hanging(nil) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				s := newSite(t)
				ca := s.ca(hanging(release)[name](s))
				begun := time.Now()
				err := s.getOrder(t, ca)
				if took := time.Since(begun); took < 2*readTimeout || took > 2*readTimeout+time.Second {
					t.Errorf("took %s, want 2 * 10s", took)
				}
				if !errors.Is(err, context.DeadlineExceeded) || t.Context().Err() != nil {
					t.Errorf("error %v, context %v", err, t.Context().Err())
				}
				if want := "POST: CA " + s.order + " did not answer within 10s"; Cause(err).Error() != want {
					t.Errorf("error %q, want %q", Cause(err), want)
				}
				s.expect(t, acmetest.Order, 2)
				time.Sleep(2 * time.Second) // the slow body's last read ends, and with it the goroutine
			})
		})
	}
}

func TestEndOfAttemptIsNotATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		s := newSite(t)
		ca := s.ca(s.through(s.directory.NonceURL, deaf(func() { <-release })))
		var trace Trace
		ctx, cancel := context.WithTimeout(WithTrace(t.Context(), &trace), 300*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := s.client(ca).GetOrder(ctx, s.order)
		if took := time.Since(begun); took != 300*time.Millisecond {
			t.Errorf("took %s, want 300ms", took)
		}
		var failed *RequestError
		if !errors.Is(err, ctx.Err()) || errors.As(err, &failed) {
			t.Errorf("error %v, want that of the context alone", err)
		}
		if trace.Failed() != EndpointNewNonce {
			t.Errorf("failed: %s, want newNonce", trace.Failed())
		}
	})
}

// The same for a request that bypasses acme.Client, which hides the transport's
// error.
func TestEndOfUnsignedCallIsNotATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Stall(at(acmetest.RenewalInfo))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := s.ca(s.Client()).RenewalInfo(ctx, "AQ.AQ")
		var failed *RequestError
		if !errors.As(err, &failed) || failed.Timeout != 0 || failed.Err != ctx.Err() {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}

func TestLateBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := readFunc{closed: make(chan struct{}), read: func([]byte) (int, error) {
			t.Error("a late body was read")
			return 0, io.EOF
		}}
		s := newSite(t)
		var calls atomic.Int32
		ca := s.ca(s.through(s.order, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
			if calls.Add(1) > 1 {
				return next.RoundTrip(req)
			}
			res, err := withBody(body)(next, req)
			time.Sleep(time.Hour)
			return res, err
		}))
		if err := s.getOrder(t, ca); err != nil {
			t.Error(err)
		}
		<-body.closed // or the bubble reports a deadlock
	})
}

func TestBodyLimit(t *testing.T) {
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.Order} {
		t.Run(string(endpoint), func(t *testing.T) {
			s := newSite(t)
			s.EndlessBody(at(endpoint))
			err := s.getOrder(t, s.ca(s.Client()))
			if err == nil || !strings.Contains(err.Error(), "larger than 262144 bytes") {
				t.Errorf("error %v", err)
			}
			s.expect(t, endpoint, 1)
		})
	}
	s := newSite(t)
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for name, limit := range map[string]int64{"just fits": res.ContentLength, "a byte too long": res.ContentLength - 1} {
		t.Run(name, func(t *testing.T) {
			ca := New(Config{DirectoryURL: s.URL, HTTPClient: s.Client(), BodyLimit: limit})
			if err := s.discover(t, ca); (err == nil) != (limit == res.ContentLength) {
				t.Errorf("a directory of %d bytes, limit %d: error %v", res.ContentLength, limit, err)
			}
		})
	}
}

// An uncaught panic would end the process, and a Goexit would leave the attempt
// waiting.
func TestBrokenTransport(t *testing.T) {
	tests := []struct {
		name   string
		answer func() (*http.Response, error)
		want   string
		calls  int
	}{
		{"panic", func() (*http.Response, error) { panic("at the user's") }, "panicked: at the user's", 1},
		{"Goexit", func() (*http.Response, error) { runtime.Goexit(); return nil, nil }, "without an answer", 1},
		{"error", func() (*http.Response, error) { return nil, errors.New("broken pipe") }, "broken pipe", 1 + maxLostRetries},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			calls := 0
			ca := s.ca(s.through(s.order, func(http.RoundTripper, *http.Request) (*http.Response, error) {
				calls++
				return tt.answer()
			}))
			err := s.getOrder(t, ca)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if calls != tt.calls {
				t.Errorf("%d calls of the transport, want %d", calls, tt.calls)
			}
		})
	}
}

func TestLostConnection(t *testing.T) {
	tests := []struct {
		endpoint acmetest.Endpoint
		want     int
	}{
		{acmetest.Directory, 2},
		{acmetest.NewNonce, 2},
		{acmetest.Order, 1 + maxLostRetries},
	}
	for _, tt := range tests {
		t.Run(string(tt.endpoint), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				s.Drop(at(tt.endpoint))
				err := s.getOrder(t, s.ca(s.Client()))
				if err == nil || !strings.Contains(err.Error(), "connection closed without a reply") ||
					!errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error %v", err)
				}
				s.expect(t, tt.endpoint, tt.want)
			})
		})
	}
}

func TestRedirectOfPostIsRefused(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := newSite(t)
		s.Respond(at(acmetest.Order), status, http.Header{"Location": {"https://other.test/order/1?secret=x"}}, "")
		var followed []string
		user := *s.Client()
		user.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(s.URL, "https://"+req.URL.Host+"/") {
				followed = append(followed, req.Method)
			}
			return s.Client().Transport.RoundTrip(req)
		})
		err := s.getOrder(t, s.ca(&user))
		if err == nil || !strings.Contains(err.Error(), "to https://other.test/order/1: a signed request cannot follow a redirect") {
			t.Errorf("%d: error %v", status, err)
		}
		s.expect(t, acmetest.Order, 1)
		if len(followed) > 0 {
			t.Errorf("%d: followed with %v", status, followed)
		}
	}
}

func TestRedirectLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Respond(at(acmetest.Directory), 302, http.Header{"Location": {s.URL}}, "")
		err := s.discover(t, s.ca(s.Client()))
		if err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") {
			t.Errorf("error %v", err)
		}
		s.expect(t, acmetest.Directory, 2*maxRedirects) // it counts as a lost connection, which is tried again
	})
}

func TestErrorShowsNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Drop(at(acmetest.Directory))
		ca := New(Config{
			DirectoryURL: strings.Replace(s.URL, "https://", "https://user:hunter2@", 1) + "?key=hunter3",
			HTTPClient:   s.Client(),
		})
		err := Cause(s.discover(t, ca))
		want := "GET: CA " + s.URL + ": acmetest: connection closed without a reply: unexpected EOF"
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
	if plain := errors.New("plain"); Cause(plain) != plain {
		t.Error("Cause changed an error that holds no RequestError")
	}
}

func TestTraceTellsEndpointsApart(t *testing.T) {
	tests := []struct {
		fault    acmetest.Endpoint
		want     Endpoint
		requests int
		url      func(*site) string // that fails
	}{
		{acmetest.Directory, EndpointDirectory, 1, func(s *site) string { return s.URL }},
		{acmetest.NewNonce, EndpointNewNonce, 2, func(s *site) string { return s.directory.NonceURL }},
		{acmetest.NewAccount, EndpointNewAccount, 3, func(s *site) string { return s.directory.RegURL }},
		{acmetest.NewOrder, EndpointNewOrder, 4, func(s *site) string { return s.directory.OrderURL }},
		{acmetest.Order, EndpointOther, 5, func(s *site) string { return s.order }},
		{acmetest.Unknown, EndpointNone, 5, func(*site) string { return "" }},
	}
	for _, tt := range tests {
		t.Run(tt.want.String(), func(t *testing.T) {
			s := newSite(t)
			s.Status(at(tt.fault), 429, http.Header{"Retry-After": {"999999999"}, "Location": {s.order}},
				acmetest.Problem{Type: "rateLimited"})
			var trace Trace
			ctx := WithTrace(t.Context(), &trace)
			c := s.ca(s.Client()).Client(s.key, "")
			_, err := c.Register(ctx, &acme.Account{}, acme.AcceptTOS)
			if errors.Is(err, acme.ErrAccountAlreadyExists) {
				_, err = c.AuthorizeOrder(ctx, acme.DomainIDs("a.test"))
			}
			if err == nil {
				_, err = c.GetOrder(ctx, s.order)
			}
			if trace.Failed() != tt.want || trace.Requests() != tt.requests {
				t.Errorf("failed %s after %d requests, want %s after %d", trace.Failed(), trace.Requests(), tt.want, tt.requests)
			}
			if want := tt.url(s); trace.FailedURL() != want {
				t.Errorf("failed URL %q, want %q", trace.FailedURL(), want)
			}
			if tt.want == EndpointNone {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if p, ok := Problem(err); !ok || p.StatusCode != 429 || !IsRateLimited(err) {
				t.Errorf("error %v, want a rate limit", err)
			}
			if trace.RetryAfter() != 24*time.Hour || trace.Location() != s.order {
				t.Errorf("Retry-After %s, Location %q", trace.RetryAfter(), trace.Location())
			}
		})
	}
}
