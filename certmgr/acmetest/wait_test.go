package acmetest_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestWaitsReturnWhenItHappens(t *testing.T) {
	tests := []struct {
		name string
		wait func(ctx context.Context, s *acmetest.Server) error
		do   func(c *rawClient)
	}{
		{"the third request", func(ctx context.Context, s *acmetest.Server) error {
			return s.WaitCount(ctx, acmetest.Match{Endpoint: acmetest.Directory, Count: 1}, 3)
		}, func(c *rawClient) {
			for range 3 {
				c.do(post{method: http.MethodGet, url: c.server.URL})
			}
		}},
		{"a request about a name", func(ctx context.Context, s *acmetest.Server) error {
			return s.WaitCount(ctx, acmetest.Match{Endpoint: acmetest.NewOrder, Host: "*.Example.com"}, 1)
		}, func(c *rawClient) { c.register(); c.order("other.example.org"); c.order("www.example.com") }},
		{"a stalled request", func(ctx context.Context, s *acmetest.Server) error {
			return s.WaitCount(ctx, acmetest.Match{Endpoint: acmetest.NewNonce}, 1)
		}, func(c *rawClient) {
			c.server.Stall(acmetest.Match{Endpoint: acmetest.NewNonce})
			go func() { _, _ = c.server.Client().Head(c.endpoint("/new-nonce")) }()
		}},
		{"requests in flight", func(ctx context.Context, s *acmetest.Server) error { return s.WaitInFlight(ctx, 2) },
			func(c *rawClient) {
				c.server.Stall(acmetest.Match{Endpoint: acmetest.Directory})
				for range 3 {
					go func() { _, _ = c.server.Client().Get(c.server.URL) }()
				}
			}},
		{"the second certificate", func(ctx context.Context, s *acmetest.Server) error {
			cert, err := s.WaitIssued(ctx, "WWW.example.com", 2)
			if err == nil && !cert.Equal(s.IssuedFor("www.example.com")[1]) {
				return fmt.Errorf("another certificate")
			}
			return err
		}, func(c *rawClient) {
			c.newLeaf("www.example.com")
			c.newLeaf("other.example.com")
			c.newLeaf("www.example.com")
		}},
		{"a certificate after processing", func(ctx context.Context, s *acmetest.Server) error {
			_, err := s.WaitIssued(ctx, "www.example.com", 0) // the first
			return err
		}, func(c *rawClient) {
			fault := c.server.StuckProcessing("*")
			c.register()
			_, o := c.ready("www.example.com")
			c.finalize(o, csr(c.t, newECKey(c.t), x509.CertificateRequest{}, "www.example.com"))
			fault.Lift()
		}},
		{"a failed validation", func(ctx context.Context, s *acmetest.Server) error {
			return s.WaitUntil(ctx, "a failed validation", func() bool {
				return slices.Contains(s.Authorizations("www.example.com"), "invalid")
			})
		}, func(c *rawClient) {
			c.register()
			c.server.Resolve("www.example.com", acmetest.Target{HTTPHandler: http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second) // so that it ends after all requests
					http.NotFound(w, r)
				})})
			_, o := c.order("www.example.com")
			c.do(post{url: c.get(o.authorizations()[0]).challenge("http-01"), payload: "{}"})
			time.Sleep(time.Second)
		}},
		{"a request that is still being sent", func(ctx context.Context, s *acmetest.Server) error {
			return s.WaitInFlight(ctx, 1)
		}, func(c *rawClient) {
			body, rest := io.Pipe()
			time.AfterFunc(time.Hour, func() { rest.Close() })
			go func() { _, _ = c.server.Client().Post(c.endpoint("/new-order"), "application/jose+json", body) }()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				done := make(chan error, 1)
				go func() { done <- tt.wait(t.Context(), s) }()
				synctest.Wait() // in a bubble a wait is one, and not a loop
				select {
				case err := <-done:
					t.Fatalf("returned before it happened: %v", err)
				default:
				}
				tt.do(newRawClient(t, s))
				synctest.Wait()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				default:
					t.Errorf("still waiting\n%v", s)
				}
				if err := tt.wait(t.Context(), s); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestWaitInFlightForNone(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		fault := s.Stall(acmetest.Match{})
		got := make(chan error, 1)
		go func() {
			resp, err := s.Client().Get(s.URL)
			if err == nil {
				resp.Body.Close()
			}
			got <- err
		}()
		if err := s.WaitInFlight(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		fault.Lift()
		if err := s.WaitInFlight(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if n := s.InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// The error of a failed wait says why it ended, what it waited for and what the
// CA saw.
func TestWaitsInVain(t *testing.T) {
	gone := errors.New("gone")
	tests := []struct {
		name string
		end  func(s *acmetest.Server, cancel context.CancelCauseFunc)
		wait func(ctx context.Context, s *acmetest.Server) error
		as   error
		text []string
	}{
		{"a cause", func(_ *acmetest.Server, cancel context.CancelCauseFunc) { cancel(gone) },
			func(ctx context.Context, s *acmetest.Server) error {
				return s.WaitCount(ctx, acmetest.Match{Endpoint: acmetest.NewOrder, Host: "www.example.com"}, 3)
			}, gone, []string{"waiting for 3 requests to newOrder about www.example.com (1 came in): gone; "}},
		{"cancelled", func(_ *acmetest.Server, cancel context.CancelCauseFunc) { cancel(nil) },
			func(ctx context.Context, s *acmetest.Server) error { return s.WaitInFlight(ctx, 2) },
			context.Canceled, []string{"waiting for 2 requests being handled (0 are): context canceled; "}},
		{"closed", func(s *acmetest.Server, _ context.CancelCauseFunc) { s.Close() },
			func(ctx context.Context, s *acmetest.Server) error {
				_, err := s.WaitIssued(ctx, "www.example.com", 1)
				return err
			}, http.ErrServerClosed,
			[]string{"waiting for certificate 1 for www.example.com (0 were issued): " + http.ErrServerClosed.Error() + "; "}},
		{"a condition", func(s *acmetest.Server, _ context.CancelCauseFunc) { s.Close() },
			func(ctx context.Context, s *acmetest.Server) error {
				return s.WaitUntil(ctx, "better times", func() bool { return false })
			}, http.ErrServerClosed, []string{"waiting for better times: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := acmetest.NewMemoryServer()
				defer s.Close()
				c := newRawClient(t, s)
				c.register()
				s.FailValidation("www.example.com", "", acmetest.Problem{Type: "caa", Detail: "not\nyou"})
				c.ready("www.example.com")
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				time.AfterFunc(time.Hour, func() { tt.end(s, cancel) })
				begin := time.Now()
				err := tt.wait(ctx, s)
				if !errors.Is(err, tt.as) || time.Since(begin) != time.Hour {
					t.Fatalf("error %v after %v, want %v", err, time.Since(begin), tt.as)
				}
				for _, want := range append(tt.text, "acmetest: ", `validation of www.example.com failed: caa: "not\nyou"`,
					"POST authorization 200 www.example.com (/account/1)") {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error does not say %q: %v", want, err)
					}
				}
				if text := err.Error(); strings.Contains(text, "\n") || len(text) > 1000 {
					t.Errorf("the error is not one short line: %q", text)
				}
			})
		})
	}
}

func TestWaitErrorsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		s.FailValidation("*", "", acmetest.Problem{Detail: strings.Repeat("long ", 10_000)})
		var hosts []string
		for i := range 100 {
			hosts = append(hosts, fmt.Sprintf("host-%d.example.com", i))
		}
		c.ready(hosts...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.WaitCount(ctx, acmetest.Match{}, 1_000_000)
		if err == nil || len(err.Error()) > 5000 {
			t.Errorf("an error of %d bytes: %v", len(fmt.Sprint(err)), err)
		}
	})
}

// An event counts even if the context has ended too.
func TestWaitPrefersSuccess(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	s.Count(acmetest.Any)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WaitCount(ctx, acmetest.Match{}, 0); err != nil {
		t.Error(err)
	}
	if err := s.WaitCount(ctx, acmetest.Match{}, 1); err == nil || !strings.Contains(err.Error(), "no request came in") {
		t.Errorf("error %v", err)
	}
}

func TestCountByAccountAndHost(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	first, second := newRawClient(t, s), newRawClient(t, s)
	first.register()
	second.register()
	first.order("a.example.com")
	first.order("a.example.com", "b.example.com")
	second.order("b.example.com")
	for _, tt := range []struct{ what, got, want int }{
		{1, s.CountAccount(acmetest.NewOrder, first.kid), 2},
		{2, s.CountAccount(acmetest.Any, second.kid), 2},
		{3, s.CountAccount(acmetest.NewOrder, second.kid), 1},
		{4, s.CountHost(acmetest.NewOrder, "A.example.com"), 2},
		{5, s.CountHost(acmetest.Any, "b.example.com"), 2},
	} {
		if tt.got != tt.want {
			t.Errorf("count %d: %d, want %d\n%v", tt.what, tt.got, tt.want, s)
		}
	}
}

// The full dump of a varied session.
func TestDumpReadsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := profiled("classic")
		defer s.Close()
		s.SetClockSkew(time.Hour)
		c := newRawClient(t, s)
		leaf := c.newLeaf("www.example.com")
		c.replace(acmetest.CertID(leaf), "www.example.com")
		c.order("*.example.com", "a.example.com", "b.example.com", "c.example.com", "d.example.com")
		s.Resolve("moved.example.com", acmetest.Target{})
		_, o := c.order("moved.example.com")
		c.validate(o)
		s.FailFinalize("final.example.com", acmetest.Problem{Detail: "no\nway"})
		_, o = c.ready("final.example.com")
		c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "final.example.com"))
		s.Drop(acmetest.Match{Endpoint: acmetest.Directory})
		_, _ = s.Client().Get(s.URL)
		s.Stall(acmetest.Match{Endpoint: acmetest.OrdersList})
		go func() { _, _ = s.Client().Get(c.endpoint("/orders/1")) }()
		if err := s.WaitCount(t.Context(), acmetest.Match{Endpoint: acmetest.OrdersList}, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		c.rollOver(rollover{})
		if err := s.WaitCount(t.Context(), acmetest.Match{Endpoint: acmetest.KeyChange}, 1); err != nil {
			t.Fatal(err)
		}
		got := s.String()
		for _, want := range []string{
			`: \d+ requests, 1 being handled, 1 certificates issued, clock off by 1h0m0s`,
			`       \+0s HEAD newNonce      200`,
			`       \+0s POST newAccount    201 \(/account/1\)`,
			`       \+0s POST newOrder      201 www.example.com \(/account/1\)`,
			`       \+0s POST newOrder      201 \*.example.com,a.example.com,b.example.com and 2 more \(/account/1\)`,
			`       \+0s GET  directory     --- \[fault: Drop\] \(no reply\)`,
			`       \+0s GET  orders        --- \[fault: Stall\] \(being handled\)`,
			`     \+1.5s POST keyChange     200 \(/account/1\)`,
			`order /order/2 \(/account/1\) for www.example.com is ready, profile classic, replaces [-_.0-9A-Za-z]+`,
			`order /order/3 \(/account/1\) for \*.example.com,a.example.com,b.example.com and 2 more is pending, profile classic`,
			`order /order/5 \(/account/1\) for final.example.com failed: serverInternal: "no\\nway"`,
			`validation of moved.example.com failed: connection: ".*refused"`,
		} {
			if !regexp.MustCompile(`(?m)^` + want + `$|` + want + `\n`).MatchString(got) {
				t.Errorf("no line %s", want)
			}
		}
		if t.Failed() {
			t.Log(got)
		}
	})
}

func TestDumpIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c := newRawClient(t, s)
		c.register()
		s.FailValidation("*", "", acmetest.Problem{})
		for i := range 100 {
			c.ready(fmt.Sprintf("failing-%d.example.com", i))
			c.order(fmt.Sprintf("open-%d.example.com", i))
		}
		for range 10_000 - s.Count(acmetest.Any) {
			resp, err := s.Client().Head(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		lines := strings.Split(strings.TrimSpace(s.String()), "\n")
		if len(lines) > 250 {
			t.Errorf("%d lines", len(lines))
		}
		for i, want := range map[int]string{
			1:              "HEAD newNonce",
			51:             "... 9800 requests are left out",
			52:             "HEAD directory",
			202:            "... 80 more are left out",
			203:            "order /order/162 (/account/1) for open-80.example.com is pending",
			223:            "... 80 more are left out",
			len(lines) - 1: "validation of failing-99.example.com failed",
		} {
			if i >= len(lines) || !strings.Contains(lines[i], want) {
				t.Errorf("line %d of %d is %q, want %q", i, len(lines), lines[min(i, len(lines)-1)], want)
			}
		}
	})
}

func TestForgetRequests(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	get := func() {
		t.Helper()
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	get()
	get()
	if forgotten := s.ForgetRequests(); len(forgotten) != 2 || forgotten[0].Endpoint != acmetest.Directory {
		t.Errorf("forgotten: %v", forgotten)
	}
	get()
	if n := s.Count(acmetest.Any); n != 1 {
		t.Errorf("%d requests since, want 1", n)
	}
}
