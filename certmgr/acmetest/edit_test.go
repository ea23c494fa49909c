package acmetest_test

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// lastRequest is the newest entry of the log.
func lastRequest(s *acmetest.Server) acmetest.Request {
	log := s.Requests()
	return log[len(log)-1]
}

func TestEditActsAfterTheCA(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		c := newRawClient(t, s)
		c.register()
		s.Edit(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, func(r *acmetest.Reply) {
			r.SetProblem(acmetest.Problem{Type: "serverInternal", Detail: "lost"})
			r.Header.Del("Location")
		})
		a := c.newOrder(nil, "a.example.com")
		if a.status != 500 || a.problem() != "serverInternal" || a.header.Get("Location") != "" ||
			a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("the client got %d %v %s", a.status, a.header, a.body)
		}
		if orders := s.Orders(); len(orders) != 1 || orders[0].Status != "pending" {
			t.Errorf("the CA made %+v", orders)
		}
		if r := lastRequest(s); r.Status != 500 || r.Problem != "serverInternal" || r.Detail != "lost" || r.Fault != "Edit" {
			t.Errorf("log entry %+v", r)
		}
		// The reply kept its valid nonce, and the edit has ended.
		if a := c.do(post{url: c.kid, header: map[string]any{"nonce": a.header.Get("Replay-Nonce")}}); a.status != 200 {
			t.Errorf("the next request: %d %s", a.status, a.body)
		}
		if a := c.newOrder(nil, "a.example.com"); a.status != http.StatusCreated {
			t.Errorf("the next order: %d %s", a.status, a.body)
		}
	})
}

func TestEditDropsTheReply(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		c := newRawClient(t, s)
		c.register()
		u, o := c.ready("a.example.com")
		s.Edit(acmetest.Match{Endpoint: acmetest.Finalize, Count: 1}, func(r *acmetest.Reply) { r.Drop = true })
		payload := `{"csr":"` + csr(t, newECKey(t), x509.CertificateRequest{}, "a.example.com") + `"}`
		if a, err := c.try(post{url: o.str("finalize"), payload: payload}); err == nil {
			t.Errorf("the client got %d %s", a.status, a.body)
		}
		if r := lastRequest(s); r.Status != 0 || r.Fault != "Edit" || !strings.Contains(s.String(), "[fault: Edit] (no reply)") {
			t.Errorf("log entry %+v\n%v", r, s)
		}
		if len(s.Issued()) != 1 || c.get(u).str("status") != "valid" {
			t.Errorf("nothing was issued\n%v", s)
		}
	})
}

func TestEditOfStatusHeadersAndBody(t *testing.T) {
	tests := []struct {
		name, method, path string
		edit               func(r *acmetest.Reply)
		status             int
		header             map[string][]string // as they arrive
		body               string
		length             int64
	}{
		{"a body", "GET", "/directory", func(r *acmetest.Reply) { r.Body = []byte("four") },
			200, map[string][]string{"Content-Type": {"application/json"}}, "four", 4},
		{"a wrong length", "GET", "/directory", func(r *acmetest.Reply) {
			r.Body = []byte("four")
			r.Header["content-length"] = []string{"99"}
			r.Header.Set("Transfer-Encoding", "chunked")
		}, 200, nil, "four", 4},
		{"no body", "GET", "/directory", func(r *acmetest.Reply) { r.Body = nil }, 200, nil, "", 0},
		{"a status without a body", "GET", "/directory", func(r *acmetest.Reply) { r.Status = 204 }, 204, nil, "", 0},
		{"nil removes", "GET", "/directory", func(r *acmetest.Reply) {
			r.Header["date"], r.Header["Content-Type"], r.Body = nil, nil, []byte("<html>")
		}, 200, map[string][]string{"Date": nil, "Content-Type": nil}, "<html>", 6},
		{"deleting removes", "GET", "/directory", func(r *acmetest.Reply) {
			r.Header.Del("Date")
			r.Header.Del("Content-Type")
			r.Body = []byte("<html>")
		}, 200, map[string][]string{"Date": nil, "Content-Type": nil}, "<html>", 6},
		{"no header at all", "GET", "/directory", func(r *acmetest.Reply) { r.Header, r.Body = nil, []byte("x") },
			200, map[string][]string{"Date": nil, "Content-Type": nil, "Cache-Control": nil}, "x", 1},
		{"several values", "GET", "/directory", func(r *acmetest.Reply) {
			r.Header["link"], r.Body = []string{"<a>", "<b>"}, []byte("x")
		}, 200, map[string][]string{"Link": {"<a>", "<b>"}}, "x", 1},
		{"HEAD has no body", "HEAD", "/directory", func(r *acmetest.Reply) { r.Body = []byte("four") }, 200, nil, "", 4},
		{"a nonce", "HEAD", "/new-nonce", func(r *acmetest.Reply) { r.Header.Set("Replay-Nonce", "mine") },
			200, map[string][]string{"Replay-Nonce": {"mine"}}, "", -1},
		{"no nonce", "HEAD", "/new-nonce", func(r *acmetest.Reply) { r.Header["Replay-Nonce"] = nil },
			200, map[string][]string{"Replay-Nonce": nil}, "", -1},
		{"newNonce by GET", "GET", "/new-nonce", func(r *acmetest.Reply) { r.Status, r.Body = 200, []byte("x") }, 200, nil, "x", 1},
		{"a failing newNonce", "HEAD", "/new-nonce", func(r *acmetest.Reply) { r.SetProblem(acmetest.Problem{Status: 503}) },
			503, nil, "", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, s *acmetest.Server) {
				s.Edit(acmetest.Match{}, tt.edit)
				resp, body := send(t, s, tt.method, strings.TrimSuffix(s.URL, "/directory")+tt.path)
				if resp.StatusCode != tt.status || body != tt.body || tt.length >= 0 && resp.ContentLength != tt.length {
					t.Errorf("status %d, %d bytes %q", resp.StatusCode, resp.ContentLength, body)
				}
				for name, want := range tt.header {
					if got := resp.Header[name]; !slices.Equal(got, want) {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				if r := lastRequest(s); r.Status != tt.status || r.Fault != "Edit" {
					t.Errorf("log entry %+v", r)
				}
			})
		})
	}
}

func TestEditsApplyInOrderUntilTheyAreLifted(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	m := acmetest.Match{Endpoint: acmetest.Directory}
	appendix := func(text string) func(r *acmetest.Reply) {
		return func(r *acmetest.Reply) { r.Body = append(r.Body, text...) }
	}
	faults := []*acmetest.Fault{
		s.Edit(m, func(r *acmetest.Reply) { r.Body = nil }),
		s.Edit(m, appendix("a")),
		s.Edit(m, func(*acmetest.Reply) {}),
		s.Edit(m, appendix("b")),
	}
	check := func(want, fault string) {
		t.Helper()
		if _, body := send(t, s, http.MethodGet, s.URL); body != want {
			t.Errorf("body %q, want %q", body, want)
		}
		// An edit that changes nothing is not logged.
		if r := lastRequest(s); r.Fault != fault {
			t.Errorf("log entry %+v, want the fault %q", r, fault)
		}
	}
	check("ab", "Edit,Edit,Edit")
	faults[1].Lift()
	check("b", "Edit,Edit")
	faults[3].Lift()
	check("", "Edit")
	faults[0].Lift()
	if _, body := send(t, s, http.MethodGet, s.URL); !strings.Contains(body, "newOrder") || lastRequest(s).Fault != "" {
		t.Errorf("body %q, log entry %+v", body, lastRequest(s))
	}
}

func TestEditLeavesTheRepliesOfOtherFaults(t *testing.T) {
	for name, fault := range map[string]func(s *acmetest.Server, m acmetest.Match){
		"Status":  func(s *acmetest.Server, m acmetest.Match) { s.Status(m, 200, nil, acmetest.Problem{}) },
		"Respond": func(s *acmetest.Server, m acmetest.Match) { s.Respond(m, 200, nil, "x") },
		"Garbage": func(s *acmetest.Server, m acmetest.Match) { s.Garbage(m) },
	} {
		t.Run(name, func(t *testing.T) {
			s := acmetest.NewMemoryServer()
			defer s.Close()
			s.Edit(acmetest.Match{Count: 1}, func(r *acmetest.Reply) { r.Status = 599 })
			fault(s, acmetest.Match{Count: 1})
			if resp, body := send(t, s, http.MethodGet, s.URL); resp.StatusCode != 200 || strings.Contains(body, "newOrder") {
				t.Errorf("status %d, body %q", resp.StatusCode, body)
			}
			if resp, _ := send(t, s, http.MethodGet, s.URL); resp.StatusCode != 599 {
				t.Errorf("the edit was used up by a reply that it left alone: status %d", resp.StatusCode)
			}
		})
	}
	bothWays(t, func(t *testing.T, s *acmetest.Server) { // the edited reply is truncated
		s.Edit(acmetest.Match{}, func(r *acmetest.Reply) { r.Body = []byte("abcdef") })
		s.Truncate(acmetest.Match{})
		resp, body, err := fetch(t, s, s.URL, time.Minute)
		if !errors.Is(err, io.ErrUnexpectedEOF) || string(body) != "abc" {
			t.Errorf("%v, body %q, error %v", resp, body, err)
		}
	})
}

func TestEditSeesTheRequest(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	var seen []acmetest.Reply
	s.Edit(acmetest.Match{}, func(r *acmetest.Reply) {
		if r.Request.Endpoint != acmetest.NewNonce {
			seen = append(seen, *r)
		}
		r.Request, r.URL, r.Payload = acmetest.Request{}, "", nil
	})
	c.register()
	u, _ := c.order("a.example.com", "b.example.com")
	c.get(u)
	c.do(post{url: u, header: map[string]any{"nonce": "AAAA"}})
	send(t, s, http.MethodGet, s.URL)
	for i, want := range []struct {
		endpoint      acmetest.Endpoint
		host, account string
		url           string
		status        int
		payload       string // a part of it
		signed        bool
	}{
		{acmetest.NewAccount, "", c.kid, c.endpoint("/new-account"), 201, "termsOfServiceAgreed", true},
		{acmetest.NewOrder, "a.example.com,b.example.com", c.kid, c.endpoint("/new-order"), 201, "identifiers", true},
		{acmetest.Order, "a.example.com,b.example.com", c.kid, u, 200, "", true},
		{acmetest.Order, "a.example.com,b.example.com", c.kid, u, 400, "", false},
		{acmetest.Directory, "", "", s.URL, 200, "", false},
	} {
		r := seen[i]
		if q := r.Request; q.Endpoint != want.endpoint || q.Host != want.host || q.Account != want.account || q.Status != 0 ||
			r.URL != want.url || r.Status != want.status || !strings.Contains(string(r.Payload), want.payload) ||
			(r.Payload != nil) != want.signed {
			t.Errorf("%s: %+v of %s, status %d, payload %q", want.endpoint, q, r.URL, r.Status, r.Payload)
		}
	}
}

// f cannot change the CA's own bytes of a reply.
func TestEditWorksOnACopy(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.newLeaf("a.example.com")
	u := c.endpoint("/certificate/1")
	fault := s.Edit(acmetest.Match{Endpoint: acmetest.Certificate}, func(r *acmetest.Reply) { clear(r.Body) })
	if a := c.get(u); a.status != 200 || strings.Contains(string(a.body), "CERTIFICATE") || lastRequest(s).Fault != "Edit" {
		t.Errorf("%d %s", a.status, a.body)
	}
	fault.Lift()
	if a := c.get(u); !strings.Contains(string(a.body), "BEGIN CERTIFICATE") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestEditThatFails(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(r *acmetest.Reply)
		detail string // empty: there is no reply
	}{
		{"panic", func(r *acmetest.Reply) {
			r.Header, r.Drop = nil, true
			panic("oops")
		}, "oops"},
		{"no status", func(r *acmetest.Reply) { r.Status = 0 }, "status 0"},
		{"an interim status", func(r *acmetest.Reply) { r.Status = 103 }, "status 103"},
		{"abort", func(*acmetest.Reply) { panic(http.ErrAbortHandler) }, ""},
		{"FailNow", func(*acmetest.Reply) { runtime.Goexit() }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, s *acmetest.Server) {
				c := newRawClient(t, s)
				c.register()
				nonce := c.nonce()
				s.Edit(acmetest.Match{Count: 1}, tt.edit)
				a, err := c.try(post{url: c.kid, header: map[string]any{"nonce": nonce}})
				if tt.detail == "" {
					if err == nil {
						t.Errorf("the client got %d %s", a.status, a.body)
					}
				} else if err != nil || a.status != 500 || a.problem() != "serverInternal" || !strings.Contains(a.str("detail"), tt.detail) ||
					!strings.Contains(lastRequest(s).Detail, tt.detail) || a.header.Get("Replay-Nonce") == "" {
					t.Errorf("%d %s, error %v, log entry %+v", a.status, a.body, err, lastRequest(s))
				}
				if err := s.WaitInFlight(t.Context(), 0); err != nil {
					t.Error(err)
				}
				if a := c.get(c.kid); a.status != 200 {
					t.Errorf("afterwards: %d %s", a.status, a.body)
				}
			})
		})
	}
}

func TestEditObject(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1,"n":12345678901234567890}`: `{"a":"b","n":12345678901234567890}`,
		`null`:                             "",
		`[1]`:                              "",
		`-----BEGIN`:                       "",
		``:                                 "",
	} {
		r := acmetest.Reply{Body: []byte(body)}
		if ok := r.EditObject(func(object map[string]any) { object["a"] = "b" }); ok != (want != "") ||
			ok && string(r.Body) != want || !ok && string(r.Body) != body {
			t.Errorf("%s: %v, %s", body, ok, r.Body)
		}
	}
}
