package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// chain is enough of a certificate for x/crypto/acme.
const chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

// call is a call of an acme.Client and the endpoint that answers it.
type call struct {
	endpoint acmetest.Endpoint
	do       func(ctx context.Context, s *site, c *acme.Client) error
}

// issuanceCalls are those of an issuance, by name.
func issuanceCalls() map[string]call {
	return map[string]call{
		"registration": {acmetest.NewAccount, func(ctx context.Context, s *site, c *acme.Client) error {
			_, err := c.Register(ctx, &acme.Account{}, acme.AcceptTOS)
			if errors.Is(err, acme.ErrAccountAlreadyExists) {
				return nil
			}
			return err
		}},
		"lookup": {acmetest.NewAccount, func(ctx context.Context, s *site, c *acme.Client) error {
			_, err := c.GetReg(ctx, "")
			return err
		}},
		"new order": {acmetest.NewOrder, func(ctx context.Context, s *site, c *acme.Client) error {
			_, err := c.AuthorizeOrder(ctx, acme.DomainIDs("a.example.com"))
			return err
		}},
		"authorization": {acmetest.Authorization, func(ctx context.Context, s *site, c *acme.Client) error {
			_, err := c.GetAuthorization(ctx, s.authz)
			return err
		}},
		"challenge": {acmetest.Challenge, func(ctx context.Context, s *site, c *acme.Client) error {
			z, err := c.GetAuthorization(ctx, s.authz)
			if err == nil {
				_, err = c.Accept(ctx, z.Challenges[0])
			}
			return err
		}},
		"order": {acmetest.Order, func(ctx context.Context, s *site, c *acme.Client) error {
			_, err := c.GetOrder(ctx, s.order)
			return err
		}},
	}
}

// Any status of 2xx is success if the body is what was asked for.
func TestAnySuccessStatusIsAccepted(t *testing.T) {
	for name, call := range issuanceCalls() {
		for _, status := range []int{200, 201, 202, 203, 206, 299} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t)
					s.Edit(at(call.endpoint), func(r *acmetest.Reply) { r.Status = status })
					if err := call.do(t.Context(), s, s.client(s.ca(s.Client()))); err != nil {
						t.Error(err)
					}
					s.expect(t, call.endpoint, 1)
				})
			})
		}
	}
}

// What is not a response to the request is told in words, with its URL, after
// a few tries.
func TestUnusableAnswersAreToldInWords(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	for name, tt := range map[string]struct {
		header http.Header
		status int
		body   string
		want   string
	}{
		"HTML":      {html, 200, "<html>Please log in", "answered 200 with HTML (text/html; charset=utf-8), not with"},
		"no type":   {nil, 200, "<!DOCTYPE html>", "answered 200 with HTML, not with"},
		"empty":     {nil, 200, "", "answered 200 with an empty body, not with"},
		"204":       {nil, 204, "", "answered 204 with an empty body, not with"},
		"truncated": {nil, 200, `{"status":"pend`, "answered 200 with JSON that is cut short or damaged, not with"},
		"text":      {nil, 200, "It works!", "answered 200 with something else, not with"},
		"an array":  {nil, 200, "[]", "answered 200 with other JSON, not with"},
	} {
		for callName, call := range issuanceCalls() {
			t.Run(name+"/"+callName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t)
					s.Respond(at(call.endpoint), tt.status, tt.header, tt.body)
					var trace Trace
					err := Cause(call.do(WithTrace(t.Context(), &trace), s, s.client(s.ca(s.Client()))))
					failed, ok := errors.AsType[*RequestError](err)
					if !ok || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "invalid character") {
						t.Fatalf("got %v, want %q", err, tt.want)
					}
					if failed.URL == "" || !strings.Contains(err.Error(), failed.URL) || trace.FailedURL() != failed.URL {
						t.Errorf("the URL is %q, that of the trace %q", failed.URL, trace.FailedURL())
					}
					want := 1 + maxLostRetries
					switch {
					case tt.body == "[]":
						want = 1 // no accident
					case call.endpoint == acmetest.NewOrder:
						want = 2
					}
					s.expect(t, call.endpoint, want)
				})
			})
		}
	}
}

// A Location that is missing is an error at once: nothing that was asked for can
// be found without it.
func TestMissingLocationIsRefusedAtOnce(t *testing.T) {
	for _, name := range []string{"registration", "lookup", "new order"} {
		t.Run(name, func(t *testing.T) {
			call := issuanceCalls()[name]
			s := newSite(t)
			s.Edit(at(call.endpoint), func(r *acmetest.Reply) { r.Header.Del("Location") })
			err := call.do(t.Context(), s, s.client(s.ca(s.Client())))
			if err == nil || !strings.Contains(err.Error(), "no Location") {
				t.Errorf("got %v, want one that names Location", err)
			}
			s.expect(t, call.endpoint, 1)
		})
	}
}

// Relative URLs are those of the CA, and are signed as absolute ones.
func TestRelativeURLsAreResolved(t *testing.T) {
	for name, call := range issuanceCalls() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			base := strings.TrimSuffix(s.URL, "/directory")
			s.order, s.authz = strings.TrimPrefix(s.order, base), strings.TrimPrefix(s.authz, base)
			s.Edit(acmetest.Match{}, func(r *acmetest.Reply) {
				r.Body = []byte(strings.ReplaceAll(string(r.Body), base, ""))
				if l := r.Header.Get("Location"); l != "" {
					r.Header.Set("Location", strings.TrimPrefix(l, base))
				}
			})
			if err := call.do(t.Context(), s, s.client(s.ca(s.Client()))); err != nil {
				t.Error(err)
			}
		})
	}
}

// A CA may say 409 to the response to a challenge that it is validating. That
// is no failure: the authorization tells how it ends.
func TestConflictOfAChallengeMeansThatItIsBeingValidated(t *testing.T) {
	s := newSite(t)
	s.Status(at(acmetest.Challenge), http.StatusConflict, nil, acmetest.Problem{Type: "conflict"})
	c := s.client(s.ca(s.Client()))
	z, err := c.GetAuthorization(t.Context(), s.authz)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Accept(t.Context(), z.Challenges[0]); err != nil || got.Status != acme.StatusProcessing {
		t.Errorf("got %+v, %v", got, err)
	}
	s.expect(t, acmetest.Challenge, 1)

	// For another request it is the CA's refusal.
	s.Status(at(acmetest.Order), http.StatusConflict, nil, acmetest.Problem{Type: "conflict"})
	if p, ok := Problem(s.getOrder(t, s.ca(s.Client()))); !ok || p.StatusCode != http.StatusConflict {
		t.Error("the order's 409 is lost")
	}
}

// A user's transport that reads and closes bodies takes the text of a refusal,
// but not its status and Retry-After.
func TestRefusalWithoutItsBodyKeepsStatusAndHeader(t *testing.T) {
	for name, body := range map[string]io.ReadCloser{
		"closed":  readFunc{read: func([]byte) (int, error) { return 0, http.ErrBodyReadAfterClose }},
		"reset":   readFunc{read: func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }},
		"endless": readFunc{read: func(p []byte) (int, error) { return len(p), nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.Status(at(acmetest.Order), http.StatusTooManyRequests, http.Header{"Retry-After": {"120"}}, acmetest.Problem{})
			err := s.getOrder(t, s.ca(s.through(s.order, withBody(body))))
			p, ok := Problem(err)
			if !ok || p.StatusCode != http.StatusTooManyRequests || !IsRateLimited(err) {
				t.Fatalf("got %v, want the refusal", err)
			}
			if d, _ := RetryAfter(p.Header, time.Now()); d != 2*time.Minute {
				t.Errorf("Retry-After %v", d)
			}
		})
	}
}

// The certificate's URL is known from the order: JSON there is none.
func TestCertificateHasToBeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		url := s.order + "/certificate"
		s.Edit(at(acmetest.Order), func(r *acmetest.Reply) {
			r.EditObject(func(order map[string]any) { order["certificate"] = url })
		})
		bodies := []string{`{"status":"processing"}`, chain}
		ca := s.ca(s.through(url, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(req)
			if err == nil {
				setStatus(res, http.StatusOK)
				replaceBody(res, []byte(bodies[0]))
			}
			return res, err
		}))
		ctx := WithTrace(t.Context(), new(Trace))
		c := s.client(ca)
		order, err := c.GetOrder(ctx, s.order)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.FetchCert(ctx, order.CertURL, true)
		if err == nil || !strings.Contains(err.Error(), "answered 200 with other JSON (application/problem+json), not with a certificate chain") {
			t.Errorf("got %v", err)
		}
		bodies = bodies[1:]
		if _, err := c.FetchCert(ctx, order.CertURL, true); err != nil {
			t.Error(err)
		}
	})
}
