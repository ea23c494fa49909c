package acmetest_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// inBubble runs a test with a CA in a bubble, where names below example.com
// lead to r.
func inBubble(t *testing.T, f func(t *testing.T, s *acmetest.Server, r *responder)) {
	t.Helper()
	inBubbleWith(t, func(*acmetest.Server) {}, f)
}

// inBubbleWith is inBubble with a server whose fields are set.
func inBubbleWith(t *testing.T, set func(s *acmetest.Server), f func(t *testing.T, s *acmetest.Server, r *responder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewUnstartedServer()
		set(s)
		s.StartMemory()
		defer s.Close()
		r := &responder{}
		s.Resolve("*.example.com", acmetest.Target{TLSConfig: r.tlsConfig(), HTTPHandler: r})
		f(t, s, r)
	})
}

// fetch gets a URL with a time-out.
func fetch(t *testing.T, s *acmetest.Server, url string, within time.Duration) (*http.Response, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, body, err
}

func TestStall(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		fault := s.Stall(acmetest.Match{Endpoint: acmetest.Directory})
		begin := time.Now()
		if _, _, err := fetch(t, s, s.URL, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("took %v, want exactly a minute", got)
		}
		synctest.Wait()
		if s.InFlight() != 0 {
			t.Error("the request goes on after its client has left")
		}
		time.AfterFunc(time.Hour, fault.Lift)
		if resp, _, err := fetch(t, s, s.URL, 2*time.Hour); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("after the lift: %v %v", resp, err)
		}
		if got := s.Requests()[1]; got.Fault != "Stall" || got.Status != http.StatusOK {
			t.Errorf("log entry %+v", got)
		}
	})
}

// TestClientTimeout checks that the time-out of http.Client works in memory,
// for the reply and for its body.
func TestClientTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		client := *s.Client()
		client.Timeout = 5 * time.Second
		fault := s.Stall(acmetest.Match{})
		begin := time.Now()
		if _, err := client.Get(s.URL); err == nil || time.Since(begin) != 5*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		fault.Lift()
		s.EndlessBody(acmetest.Match{})
		resp, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(time.Minute)
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the endless body ended well")
		}
		synctest.Wait()
		if s.InFlight() != 0 {
			t.Error("the request goes on after its client has left")
		}
	})
}

func TestStallOverLoopback(t *testing.T) {
	s := acmetest.NewServer()
	defer s.Close()
	s.Stall(acmetest.Match{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel() // the client leaves
		if err := s.WaitInFlight(t.Context(), 1); err != nil {
			t.Error(err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := s.Client().Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", resp, err)
	}
	if err := s.WaitInFlight(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestFaultForOneHost(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		client := newACMEClient(t, s)
		s.Stall(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "slow.example.com"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := obtain(ctx, t, client, r, "tls-alpn-01", "slow.example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the stalled host: %v", err)
		}
		if _, _, err := obtain(t.Context(), t, client, r, "tls-alpn-01", "fast.example.com"); err != nil {
			t.Errorf("the other host: %v\n%v", err, s)
		}
	})
}

func TestDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		s.Delay(acmetest.Match{Endpoint: acmetest.Directory, Count: 1}, 3*time.Second)
		for _, want := range []time.Duration{3 * time.Second, 0} {
			begin := time.Now()
			if _, _, err := fetch(t, s, s.URL, time.Minute); err != nil {
				t.Error(err)
			}
			if got := time.Since(begin); got != want {
				t.Errorf("took %v, want %v", got, want)
			}
		}
	})
}

func TestDrop(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		s.Drop(acmetest.Match{Count: 1})
		if _, _, err := fetch(t, s, s.URL, time.Minute); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
		if _, _, err := fetch(t, s, s.URL, time.Minute); err != nil {
			t.Errorf("the second request: %v", err)
		}
	})
	s := acmetest.NewServer()
	defer s.Close()
	s.Drop(acmetest.Match{})
	if resp, _, err := fetch(t, s, s.URL, time.Minute); err == nil {
		t.Errorf("over loopback: status %d, want an error", resp.StatusCode)
	}
}

func TestStatus(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		client := newACMEClient(t, s)
		client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return -1 }
		fault := s.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusTooManyRequests,
			http.Header{"Retry-After": {"120"}}, acmetest.Problem{Type: "rateLimited", Detail: "too many orders"})
		_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		wait, limited := acme.RateLimit(err)
		if !limited || wait != 2*time.Minute || !strings.Contains(err.Error(), "too many orders") {
			t.Errorf("error %v, wait %v", err, wait)
		}
		fault.Lift()
		if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com")); err != nil {
			t.Errorf("after the lift: %v", err)
		}
	})
}

func TestGarbage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		s.Garbage(acmetest.Match{Endpoint: acmetest.Directory})
		client := &acme.Client{DirectoryURL: s.URL, HTTPClient: s.Client()}
		if _, err := client.Discover(t.Context()); err == nil {
			t.Error("garbage was understood")
		}
	})
}

func TestEndlessBody(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		s.EndlessBody(acmetest.Match{Endpoint: acmetest.Directory})
		_, body, err := fetch(t, s, s.URL, time.Minute)
		if err != nil || len(body) != 1<<20 {
			t.Errorf("read %d bytes, error %v", len(body), err)
		}
		synctest.Wait()
		if s.InFlight() != 0 {
			t.Error("the body goes on after its reader has left")
		}
	})
	s := acmetest.NewServer()
	defer s.Close()
	fault := s.EndlessBody(acmetest.Match{})
	if _, body, err := fetch(t, s, s.URL, time.Minute); err != nil || len(body) != 1<<20 {
		t.Errorf("over loopback: read %d bytes, error %v", len(body), err)
	}
	fault.Lift()
	if n := fault.Acted(); n != 1 || fault.String() != "EndlessBody()" {
		t.Errorf("%v acted %d times, want 1", fault, n)
	}
}

func TestBadNonceRate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		s.BadNonceRate(0.4)
		client := newACMEClient(t, s)
		client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return time.Millisecond }
		for range 5 {
			if _, _, err := obtain(t.Context(), t, client, r, "http-01", "a.example.com"); err != nil {
				t.Fatalf("%v\n%v", err, s)
			}
		}
		var refused int
		for _, request := range s.Requests() {
			if request.Problem == "badNonce" {
				refused++
			}
		}
		if refused < 5 {
			t.Errorf("%d requests were refused\n%v", refused, s)
		}
	})
}

func TestStuckProcessing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		fault := s.StuckProcessing("a.example.com")
		client := newACMEClient(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := obtain(ctx, t, client, r, "http-01", "a.example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		if len(s.Issued()) != 0 {
			t.Error("a certificate was issued")
		}
		fault.Lift()
		synctest.Wait()
		if len(s.Issued()) != 1 {
			t.Error("no certificate after the lift")
		}
	})
}

func TestInvalidOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		s.InvalidOrder("a.example.com")
		client := newACMEClient(t, s)
		o, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		if err != nil || o.Status != acme.StatusInvalid {
			t.Fatalf("order %+v, error %v", o, err)
		}
		if got := s.Authorizations("a.example.com"); len(got) != 1 || got[0] != "invalid" {
			t.Errorf("authorizations %v", got)
		}
		if _, _, err := obtain(t.Context(), t, client, r, "http-01", "b.example.com"); err != nil {
			t.Errorf("another host: %v", err)
		}
	})
}

func TestFailValidation(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		fault := s.FailValidation("a.example.com", "http-01", acmetest.Problem{Type: "caa", Detail: "forbidden by CAA"})
		client := newACMEClient(t, s)
		_, _, err := obtain(t.Context(), t, client, r, "http-01", "a.example.com")
		var failed *acme.AuthorizationError
		var problem *acme.Error
		if !errors.As(err, &failed) || len(failed.Errors) != 1 || !errors.As(failed.Errors[0], &problem) ||
			problem.ProblemType != "urn:ietf:params:acme:error:caa" || problem.Detail != "forbidden by CAA" {
			t.Errorf("error %v", err)
		}
		if _, _, err := obtain(t.Context(), t, client, r, "tls-alpn-01", "a.example.com"); err != nil {
			t.Errorf("the other challenge: %v", err)
		}
		fault.Lift()
		if _, _, err := obtain(t.Context(), t, client, r, "http-01", "a.example.com"); err != nil {
			t.Errorf("after the lift: %v", err)
		}
	})
}

func TestEditCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, r *responder) {
		client := newACMEClient(t, s)
		leaf := func() (*x509.Certificate, crypto.Signer) {
			chain, key, err := obtain(t.Context(), t, client, r, "http-01", "a.example.com")
			if err != nil {
				t.Fatalf("%v\n%v", err, s)
			}
			cert, err := x509.ParseCertificate(chain[0])
			if err != nil {
				t.Fatal(err)
			}
			return cert, key
		}
		fault := s.EditCertificate("a.example.com", func(leaf *x509.Certificate) {
			leaf.DNSNames = []string{"b.example.com"}
			leaf.NotAfter = time.Now().Add(-time.Minute)
		})
		if cert, _ := leaf(); cert.VerifyHostname("b.example.com") != nil || cert.NotAfter.After(time.Now()) {
			t.Errorf("names %v, until %v", cert.DNSNames, cert.NotAfter)
		}
		fault.Lift()
		fault = s.WrongKey("a.example.com")
		if cert, key := leaf(); key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(cert.PublicKey) {
			t.Error("the certificate is for the right key")
		}
		fault.Lift()
		if cert, _ := leaf(); cert.VerifyHostname("a.example.com") != nil {
			t.Errorf("after the lift: names %v", cert.DNSNames)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		c := newRawClient(t, s)
		c.register()
		s.RetryAfter(acmetest.Any, "-1")
		s.RetryAfter(acmetest.Authorization, "soon")
		u, o := c.order("a.example.com")
		authz := c.get(o.authorizations()[0])
		for want, a := range map[string]answer{"-1": c.get(u), "soon": authz} {
			if got := a.header.Get("Retry-After"); got != want {
				t.Errorf("Retry-After %q, want %q", got, want)
			}
		}
		if got := c.get(authz.challenge("http-01")).header.Get("Retry-After"); got != "-1" {
			t.Errorf("challenge: Retry-After %q", got)
		}
		if got := c.get(c.kid).header.Get("Retry-After"); got != "" {
			t.Errorf("account: Retry-After %q", got)
		}
	})
}
