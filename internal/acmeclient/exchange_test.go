package acmeclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

// readFunc is a body made of a function.
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

func withBody(body io.ReadCloser) *http.Response {
	res := response(200, "")
	res.Body = body
	return res
}

type answerFunc = func(*http.Request, int) (*http.Response, error)

// hanging are the ways not to answer; those that ignore the context end with release.
func hanging(release chan struct{}) map[string]answerFunc {
	return map[string]answerFunc{
		"no answer": func(req *http.Request, _ int) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		},
		"transport ignores its context": func(*http.Request, int) (*http.Response, error) {
			<-release
			return response(200, validOrder), nil
		},
		"body never ends, slowly": func(*http.Request, int) (*http.Response, error) {
			return withBody(readFunc{read: func(p []byte) (int, error) {
				time.Sleep(time.Second)
				p[0] = ' '
				return 1, nil
			}}), nil
		},
		"body blocks": func(*http.Request, int) (*http.Response, error) {
			return withBody(readFunc{read: func([]byte) (int, error) {
				<-release
				return 0, io.EOF
			}}), nil
		},
	}
}

func TestRequestTimeout(t *testing.T) {
	for name := range hanging(nil) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				f := newFakeCA()
				f.answers["POST /order/1"] = hanging(release)[name]
				begun := time.Now()
				_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
				if took := time.Since(begun); took != 30*time.Second {
					t.Errorf("took %s, want 30s", took)
				}
				if !errors.Is(err, context.DeadlineExceeded) || t.Context().Err() != nil {
					t.Errorf("error %v, context %v", err, t.Context().Err())
				}
				if want := "POST: CA https://ca.test/order/1 did not answer within 30s"; Cause(err).Error() != want {
					t.Errorf("error %q, want %q", Cause(err), want)
				}
				f.expect(t, "POST /order/1", 1)
				time.Sleep(2 * time.Second) // the slow body's last read ends, and with it the goroutine
			})
		})
	}
}

func TestEndOfAttemptIsNotATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		f := newFakeCA()
		f.answers["HEAD /nonce"] = func(*http.Request, int) (*http.Response, error) {
			<-release
			return response(200, ""), nil
		}
		var trace Trace
		ctx, cancel := context.WithTimeout(WithTrace(t.Context(), &trace), 300*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(ctx, testOrder)
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

func TestLateBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		f := newFakeCA()
		f.answers["POST /order/1"] = func(*http.Request, int) (*http.Response, error) {
			time.Sleep(time.Hour)
			return withBody(readFunc{closed: closed, read: func([]byte) (int, error) {
				t.Error("a late body was read")
				return 0, io.EOF
			}}), nil
		}
		if _, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder); err == nil {
			t.Error("no error")
		}
		<-closed // or the bubble reports a deadlock
	})
}

func TestBodyLimit(t *testing.T) {
	endless := func(*http.Request, int) (*http.Response, error) {
		return withBody(readFunc{read: func(p []byte) (int, error) { return len(p), nil }}), nil
	}
	for _, endpoint := range []string{"GET /dir", "POST /order/1"} {
		t.Run(endpoint, func(t *testing.T) {
			f := newFakeCA()
			f.answers[endpoint] = endless
			_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
			if err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
				t.Errorf("error %v", err)
			}
			f.expect(t, endpoint, 1)
		})
	}
	t.Run("just fits", func(t *testing.T) {
		f := newFakeCA()
		f.reply("POST /order/1", 200, validOrder)
		ca := New(Config{DirectoryURL: testDirectory, HTTPClient: &http.Client{Transport: f},
			BodyLimit: int64(len(directoryJSON))})
		if _, err := ca.Client(newKey(t), testKID).GetOrder(t.Context(), testOrder); err != nil {
			t.Error(err)
		}
	})
}

// A panic in a goroutine of ours would end the process, and a Goexit would leave
// the attempt waiting.
func TestBrokenTransport(t *testing.T) {
	tests := []struct {
		name   string
		answer func(*http.Request, int) (*http.Response, error)
		want   string
	}{
		{"panic", func(*http.Request, int) (*http.Response, error) { panic("at the user's") }, "panicked: at the user's"},
		{"Goexit", func(*http.Request, int) (*http.Response, error) { runtime.Goexit(); return nil, nil }, "without an answer"},
		{"error", func(*http.Request, int) (*http.Response, error) { return nil, errors.New("broken pipe") }, "broken pipe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeCA()
			f.answers["POST /order/1"] = tt.answer
			_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			f.expect(t, "POST /order/1", 1) // a POST is never sent again
		})
	}
}

func TestLostConnection(t *testing.T) {
	tests := []struct {
		endpoint string
		want     int
	}{
		{"GET /dir", 2},
		{"HEAD /nonce", 2},
		{"POST /order/1", 1},
	}
	for _, tt := range tests {
		t.Run(tt.endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.answers[tt.endpoint] = func(*http.Request, int) (*http.Response, error) {
					return nil, errors.New("connection reset by peer")
				}
				_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
				if err == nil || !strings.Contains(err.Error(), "connection reset by peer") {
					t.Errorf("error %v", err)
				}
				f.expect(t, tt.endpoint, tt.want)
			})
		})
	}
}

func TestRedirectOfPostIsRefused(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFakeCA()
		f.reply("POST /order/1", status, "", "Location", "https://other.test/order/1?secret=x")
		_, err := newTestCA(f).Client(newKey(t), testKID).GetOrder(t.Context(), testOrder)
		if err == nil || !strings.Contains(err.Error(), "to https://other.test/order/1: a signed request cannot follow") {
			t.Errorf("%d: error %v", status, err)
		}
		f.expect(t, "POST /order/1", 1)
		f.expect(t, "GET /order/1", 0)
	}
}

func TestRedirectLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.reply("GET /dir", 302, "", "Location", testDirectory)
		_, err := newTestCA(f).Client(newKey(t), testKID).Discover(t.Context())
		if err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") {
			t.Errorf("error %v", err)
		}
	})
}

func TestErrorShowsNoSecret(t *testing.T) {
	f := newFakeCA()
	f.answers["GET /dir"] = func(*http.Request, int) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	ca := New(Config{DirectoryURL: "https://user:hunter2@ca.test/dir?key=hunter3", HTTPClient: &http.Client{Transport: f}})
	_, err := ca.Client(newKey(t), testKID).Discover(t.Context())
	if got, want := Cause(err).Error(), "GET: CA https://ca.test/dir: unexpected EOF"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if plain := errors.New("plain"); Cause(plain) != plain {
		t.Error("Cause changed an error that holds no RequestError")
	}
}

func TestTraceTellsEndpointsApart(t *testing.T) {
	tests := []struct {
		endpoint string
		want     Endpoint
		requests int
	}{
		{"GET /dir", EndpointDirectory, 1},
		{"HEAD /nonce", EndpointNewNonce, 2},
		{"POST /new-account", EndpointNewAccount, 3},
		{"POST /new-order", EndpointNewOrder, 4},
		{"POST /order/1", EndpointOther, 5},
		{"nothing", EndpointNone, 5},
	}
	for _, tt := range tests {
		t.Run(tt.want.String(), func(t *testing.T) {
			f := newFakeCA()
			f.answers[tt.endpoint] = func(*http.Request, int) (*http.Response, error) {
				return problem(429, "rateLimited", "Retry-After", "999999999", "Location", testOrder), nil
			}
			var trace Trace
			ctx := WithTrace(t.Context(), &trace)
			c := newTestCA(f).Client(newKey(t), "")
			_, err := c.Register(ctx, &acme.Account{}, acme.AcceptTOS)
			if err == nil {
				_, err = c.AuthorizeOrder(ctx, acme.DomainIDs("a.test"))
			}
			if err == nil {
				_, err = c.GetOrder(ctx, testOrder)
			}
			if trace.Failed() != tt.want || trace.Requests() != tt.requests {
				t.Errorf("failed %s after %d requests, want %s after %d", trace.Failed(), trace.Requests(), tt.want, tt.requests)
			}
			if tt.want == EndpointNone {
				if err != nil || trace.FailedURL() != "" {
					t.Errorf("error %v at %q", err, trace.FailedURL())
				}
				return
			}
			if p, ok := Problem(err); !ok || p.StatusCode != 429 || !IsRateLimited(err) {
				t.Errorf("error %v, want a rate limit", err)
			}
			if trace.RetryAfter() != 24*time.Hour || trace.Location() != testOrder {
				t.Errorf("Retry-After %s, Location %q", trace.RetryAfter(), trace.Location())
			}
			if want := testBase + tt.endpoint[strings.Index(tt.endpoint, "/"):]; trace.FailedURL() != want {
				t.Errorf("failed URL %q, want %q", trace.FailedURL(), want)
			}
		})
	}
}
