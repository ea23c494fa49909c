package acmetest_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// bothWays runs a test with a CA in memory and with one over loopback.
func bothWays(t *testing.T, f func(t *testing.T, s *acmetest.Server)) {
	t.Helper()
	for name, start := range map[string]func() *acmetest.Server{
		"memory":   acmetest.NewMemoryServer,
		"loopback": acmetest.NewServer,
	} {
		t.Run(name, func(t *testing.T) {
			s := start()
			defer s.Close()
			f(t, s)
		})
	}
}

// send makes an unsigned request and does not follow redirects.
func send(t *testing.T, s *acmetest.Server, method, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRespondSendsExactlyWhatTheTestWants(t *testing.T) {
	tests := []struct {
		name   string
		method string
		code   int
		header http.Header
		body   string
		want   string // the body that arrives
	}{
		{"no JSON", http.MethodGet, 200, nil, "<html>\x00\xff", "<html>\x00\xff"},
		{"nothing", http.MethodGet, 200, nil, "", ""},
		{"an order", http.MethodGet, 200, http.Header{"Content-Type": {"application/json"}, "Retry-After": {"-1"}},
			`{"status":"unheard of"}`, `{"status":"unheard of"}`},
		{"several values", http.MethodGet, 599, http.Header{"Link": {"<a>", "<b>"}}, "x", "x"},
		{"a redirect", http.MethodGet, 301, http.Header{"Location": {"https://other.invalid/"}}, "", ""},
		{"204 has no body", http.MethodGet, 204, nil, "x", ""},
		{"304 has no body", http.MethodGet, 304, nil, "x", ""},
		{"HEAD has no body", http.MethodHead, 200, nil, "x", ""},
		{"no such status in HTTP", http.MethodGet, 999, nil, "x", "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, s *acmetest.Server) {
				s.Respond(acmetest.Match{Endpoint: acmetest.Directory}, tt.code, tt.header, tt.body)
				resp, body := send(t, s, tt.method, s.URL)
				if resp.StatusCode != tt.code || body != tt.want {
					t.Errorf("status %d, body %q; want %d, %q", resp.StatusCode, body, tt.code, tt.want)
				}
				resp.Header.Del("Date")
				resp.Header.Del("Content-Length")
				if !maps.EqualFunc(resp.Header, tt.header, slices.Equal[[]string]) {
					t.Errorf("headers %v, want %v", resp.Header, tt.header)
				}
			})
		})
	}
}

func TestRespondIgnoresAContentLength(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		s.Respond(acmetest.Match{}, 200, http.Header{"content-length": {"99"}}, "four")
		if resp, body := send(t, s, http.MethodGet, s.URL); resp.ContentLength != 4 || body != "four" {
			t.Errorf("length %d, body %q", resp.ContentLength, body)
		}
	})
}

// A reply has a nonce like any other, unless the test sets or suppresses it.
func TestRespondAndNonces(t *testing.T) {
	tests := []struct {
		name   string
		header http.Header
		fresh  bool     // one that the CA made
		want   []string // if not fresh
	}{
		{"nothing said", nil, true, nil},
		{"another one", http.Header{"replay-nonce": {"mine"}}, false, []string{"mine"}},
		{"two", http.Header{"Replay-Nonce": {"a", "b"}}, false, []string{"a", "b"}},
		{"none", http.Header{"replay-nonce": nil}, false, nil},
		{"none, in another way", http.Header{"Replay-Nonce": {}}, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, s *acmetest.Server) {
				c := newRawClient(t, s)
				for url, method := range map[string]string{
					c.endpoint("/new-nonce"): http.MethodHead,
					c.endpoint("/new-order"): http.MethodPost,
				} {
					s.Respond(acmetest.Match{Count: 1}, 200, tt.header, "{}")
					resp, _ := send(t, s, method, url)
					got := resp.Header["Replay-Nonce"]
					if tt.fresh && len(got) == 1 && len(got[0]) > 10 {
						continue
					}
					if tt.fresh || !slices.Equal(got, tt.want) {
						t.Errorf("%s %s: nonces %q, want %q", method, url, got, tt.want)
					}
				}
			})
		})
	}
	// The added nonce is valid.
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	fault := s.Respond(acmetest.Match{Endpoint: acmetest.NewNonce}, 200, nil, "")
	c.register()
	fault.Lift()
	if got := s.Count(acmetest.NewNonce); got != 1 {
		t.Errorf("%d requests for nonces, want 1\n%v", got, s)
	}
}

func TestRespondCountsAndEnds(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		fault := s.Respond(acmetest.Match{Endpoint: acmetest.Directory, Count: 2}, 418, nil, "")
		for i, want := range []int{418, 418, 200} {
			if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != want {
				t.Errorf("request %d: status %d, want %d", i, resp.StatusCode, want)
			}
		}
		fault.Lift()
		fault.Lift()
		fault = s.Respond(acmetest.Match{Endpoint: acmetest.Directory}, 418, nil, "")
		send(t, s, http.MethodGet, s.URL)
		fault.Lift()
		if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != 200 {
			t.Errorf("after the lift: status %d", resp.StatusCode)
		}
		if got := s.Count(acmetest.Directory); got != 5 {
			t.Errorf("%d requests counted, want 5", got)
		}
	})
}

func TestRespondIsLogged(t *testing.T) {
	tests := []struct {
		name, body   string
		code         int
		typ, problem string
	}{
		{"a problem", `{"type":"urn:ietf:params:acme:error:caa","detail":"no","status":"odd"}`, 403, "caa", "no"},
		{"a type of its own", `{"type":"urn:example:broken"}`, 500, "urn:example:broken", ""},
		{"no problem document", "<html>", 503, "", ""},
		{"not an error", `{"type":"dns"}`, 200, "", ""},
	}
	for _, tt := range tests {
		s := acmetest.NewMemoryServer()
		s.Respond(acmetest.Match{}, tt.code, nil, tt.body)
		send(t, s, http.MethodGet, s.URL)
		r := s.Requests()[0]
		if r.Fault != "Respond" || r.Status != tt.code || r.Problem != tt.typ || r.Detail != tt.problem {
			t.Errorf("%s: log entry %+v", tt.name, r)
		}
		if !strings.Contains(s.String(), "[fault: Respond]") {
			t.Errorf("%s: the log does not show the fault:\n%v", tt.name, s)
		}
		s.Close()
	}
}

// The test may reuse the header that it passed.
func TestRespondKeepsItsOwnHeader(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	h := http.Header{"Retry-After": {"1"}}
	s.Respond(acmetest.Match{}, 200, h, "")
	h["Retry-After"][0] = "2"
	h.Set("Link", "<x>")
	resp, _ := send(t, s, http.MethodGet, s.URL)
	if resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Link") != "" {
		t.Errorf("headers %v", resp.Header)
	}
	resp.Header["Retry-After"][0] = "3" // nor does a client change it
	if resp, _ := send(t, s, http.MethodGet, s.URL); resp.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", resp.Header)
	}
}

func TestRespondRefusesAnImpossibleStatus(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	for _, code := range []int{-1, 0, 99, 101, 199, 1000} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("status %d was accepted", code)
				}
			}()
			s.Respond(acmetest.Match{}, code, nil, "")
		}()
	}
	if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// The purpose of this fault: an invalid order.
func TestRespondWithAnOrderThatNoCAShouldSend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		client := newACMEClient(t, s)
		order := s.URL + "/no/such/order"
		s.Respond(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "a.example.com"}, http.StatusCreated,
			http.Header{"Location": {order}}, `{"status":"valid","authorizations":[""],"finalize":"ftp://x"}`)
		o, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		if err != nil || o.URI != order || o.Status != acme.StatusValid || o.FinalizeURL != "ftp://x" {
			t.Errorf("order %+v, error %v", o, err)
		}
		if n := len(s.Orders()); n != 0 {
			t.Errorf("the CA made %d orders", n)
		}
		o, err = client.AuthorizeOrder(t.Context(), acme.DomainIDs("b.example.com"))
		if err != nil || o.Status != acme.StatusPending {
			t.Errorf("another host: order %+v, error %v", o, err)
		}
	})
}

// A nonce that was handed out before is bad, and the refusal carries a good
// one.
func TestForgetNonces(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	list := func(nonce string) answer {
		t.Helper()
		return c.do(post{url: c.kid, header: map[string]any{"nonce": nonce}})
	}
	for range 2 {
		old := []string{c.nonce(), c.nonce()}
		s.ForgetNonces()
		for _, nonce := range old {
			a := list(nonce)
			if a.status != http.StatusBadRequest || a.problem() != "badNonce" {
				t.Errorf("an old nonce: %d %s", a.status, a.body)
			}
			if again := list(a.header.Get("Replay-Nonce")); again.status != http.StatusOK {
				t.Errorf("the nonce of the refusal: %d %s", again.status, again.body)
			}
		}
	}
}
