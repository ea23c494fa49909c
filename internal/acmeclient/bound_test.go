package acmeclient

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/text"
)

// problemSize is how many bytes of text a problem holds.
func problemSize(p *acme.Error) int {
	n := headerSize(p.Header) + len(p.Error()) + len(p.Instance)
	for _, sub := range p.Subproblems {
		n += len(sub.Instance) + 128
	}
	return n
}

// refusal returns the CA's refusal of a request for the order, as the caller
// sees it.
func refusal(t *testing.T, h http.Header, body string) *acme.Error {
	t.Helper()
	var p *acme.Error
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Respond(at(acmetest.Order), http.StatusForbidden, h, body)
		var ok bool
		if p, ok = errors.AsType[*acme.Error](Cause(s.getOrder(t, s.ca(s.Client())))); !ok {
			t.Fatal("no *acme.Error")
		}
	})
	return p
}

func TestLargeRefusalIsBoundedAndStaysAProblem(t *testing.T) {
	const kind = "urn:ietf:params:acme:error:rejectedIdentifier"
	long := strings.Repeat("é", 100_000)
	part := long[:40_000]
	var subs []acme.Subproblem
	for range 240 {
		subs = append(subs, acme.Subproblem{Type: kind, Detail: long[:200], Identifier: &acme.AuthzID{Type: "dns", Value: long[:200]}})
	}
	header := http.Header{"X-Long": {long}, "Retry-After": {"120"}, "Server": {long}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}}
	for range 5_000 {
		header.Add("Link", `<https://ca.example/terms>;rel="terms-of-service"`)
		header.Add("X", "y")
	}
	for name, object := range map[string]map[string]any{
		"detail":      {"detail": long},
		"one byte on": {"detail": "x" + long},
		"instance":    {"detail": "no", "instance": long},
		"subproblems": {"detail": "no", "subproblems": subs},
		"subproblem": {"detail": "no", "subproblems": []acme.Subproblem{
			{Type: part, Detail: part, Instance: part, Identifier: &acme.AuthzID{Type: part, Value: part}}}},
		"everything": {"detail": part, "instance": part, "subproblems": subs[:200]},
	} {
		t.Run(name, func(t *testing.T) {
			object["type"] = kind
			body, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			p := refusal(t, header, string(body))
			if p.StatusCode != http.StatusForbidden || p.ProblemType != kind {
				t.Errorf("status %d, type %q", p.StatusCode, p.ProblemType)
			}
			if n := problemSize(p); n > maxHeader+maxProblem+256 { // with what Error puts between the texts
				t.Errorf("it holds %d bytes", n)
			}
			detail := object["detail"].(string)
			if kept := strings.TrimSuffix(p.Detail, "..."); !strings.HasPrefix(detail, kept) || len(kept) < min(len(detail), 1000) {
				t.Errorf("detail %.50q... of %d bytes", p.Detail, len(p.Detail))
			}
			if !utf8.ValidString(p.Error()) {
				t.Error("a text ends within a rune")
			}
			if d, ok := RetryAfter(p.Header, time.Now()); !ok || d != 2*time.Minute {
				t.Errorf("Retry-After %v, %v", d, ok)
			}
			if p.Header.Get("Date") == "" || p.Header.Get("Link") == "" || p.Header.Get("X-Long") != "" {
				t.Errorf("fields: %v", slices.Sorted(maps.Keys(p.Header)))
			}
			if name == "subproblems" && len(p.Subproblems) == 0 {
				t.Error("no subproblem is left")
			}
		})
	}
	t.Run("no problem", func(t *testing.T) {
		if p := refusal(t, nil, "<html>"+long); p.StatusCode != http.StatusForbidden || !strings.HasPrefix(p.Detail, "<html>é") || problemSize(p) > 4<<10 {
			t.Errorf("%d %.50q, %d bytes", p.StatusCode, p.Detail, problemSize(p))
		}
	})
	t.Run("type", func(t *testing.T) {
		if p := refusal(t, nil, `{"type":"urn:`+long+`","detail":"no"}`); p.Detail != "no" || problemSize(p) > 4<<10 {
			t.Errorf("%.50q, %d bytes", p.Detail, problemSize(p))
		}
	})
}

// A link says what to do, and is of no use if it is cut.
func TestLinksOfARefusalStayWhole(t *testing.T) {
	link := "https://ca.example/unpause?jwt=" + strings.Repeat("eyJhbGciOi.", 150)
	filler := strings.Repeat("too many failed authorizations ", 60)
	for name, detail := range map[string]string{
		"at the end":    "Visit " + link + ".",
		"after the cut": filler + link,
		"across it":     filler[:900] + link + " to unpause.",
	} {
		body, err := json.Marshal(map[string]any{"type": "urn:ietf:params:acme:error:rateLimited", "detail": detail, "instance": link})
		if err != nil {
			t.Fatal(err)
		}
		p := refusal(t, nil, string(body))
		if !strings.Contains(p.Detail, strings.TrimSuffix(link, ".")) || p.Instance != link || len(p.Detail) > maxDetail+text.MaxLinks {
			t.Errorf("%s: detail %q\ninstance %q", name, p.Detail, p.Instance)
		}
	}
	body := `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"see the page","instance":"` + link + link + `"}`
	if p := refusal(t, nil, body); p.Instance != "" {
		t.Errorf("an instance of %d bytes is left", len(p.Instance))
	}
}

// Everything that CAs normally send is kept, and somewhat more.
func TestUsualRefusalIsLeftAsItIs(t *testing.T) {
	header := http.Header{
		"Retry-After": {"120"}, "X-Request-Id": {"4711"}, "Strict-Transport-Security": {"max-age=604800"},
		"Link": {`<https://ca.example/dir>;rel="index"`, `<https://ca.example/terms>;rel="terms-of-service"`},
	}
	detail := strings.Repeat("During secondary validation: no valid A records found; ", 10)
	want := []acme.Subproblem{
		{Type: "urn:ietf:params:acme:error:caa", Detail: strings.Repeat("forbidden ", 10), Identifier: &acme.AuthzID{Type: "dns", Value: "a.example.com"}},
		{Type: "urn:ietf:params:acme:error:dns", Detail: "no such name", Instance: "https://ca.example/doc"},
	}
	header.Set("X-Long", strings.Repeat("x", 2_000)) // which may be a Location, of which there are copies
	body, err := json.Marshal(map[string]any{"type": "urn:x:dns", "detail": detail, "instance": "https://ca.example/x", "subproblems": want})
	if err != nil {
		t.Fatal(err)
	}
	p := refusal(t, header, string(body))
	if p.Detail != detail || p.Instance != "https://ca.example/x" || fmt.Sprint(p.Subproblems[1:]) != fmt.Sprint(want[1:]) || *p.Subproblems[0].Identifier != *want[0].Identifier {
		t.Errorf("got %+v", p)
	}
	if p.Header.Get("X-Long") != "" {
		t.Error("a long value is kept")
	}
	header.Del("X-Long")
	for name, values := range header {
		if !slices.Equal(p.Header[name], values) {
			t.Errorf("%s: %q", name, p.Header[name])
		}
	}
}

func TestRefusalOfRenewalInfoIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.Respond(at(acmetest.RenewalInfo), http.StatusForbidden, nil, `{"type":"urn:x:unauthorized","detail":"`+strings.Repeat("x", 200_000)+`"}`)
		_, err := s.ca(s.Client()).RenewalInfo(t.Context(), "aaaa.bbbb")
		if p, ok := Problem(err); !ok || p.StatusCode != http.StatusForbidden || problemSize(p) > 4<<10 {
			t.Errorf("%.100v", err)
		}
	})
}

// Errors of net/http and x/crypto/acme quote the response.
func TestErrorThatQuotesAnAnswerIsBounded(t *testing.T) {
	long := strings.Repeat("é", 400_000)
	for name, f := range map[string]func(s *site) *http.Client{
		"broken header": func(s *site) *http.Client {
			return s.through(s.order, func(http.RoundTripper, *http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("the connection broke: %w", errors.New("malformed header line "+long))
			})
		},
		"status line": func(s *site) *http.Client {
			return s.through(s.order, func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
				res, err := withBody(readFunc{read: func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }})(next, req)
				res.Status = "200 " + long
				return res, err
			})
		},
		"trailer": func(s *site) *http.Client {
			return s.through(s.order, withBody(readFunc{read: func([]byte) (int, error) { return 0, errors.New("malformed trailer " + long) }}))
		},
		"URL": func(s *site) *http.Client {
			s.order += "/" + strings.Repeat("x", 400_000)
			return s.through(s.order, func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
		},
		"redirect": func(s *site) *http.Client {
			s.Respond(at(acmetest.Order), http.StatusFound, http.Header{"Location": {"https://ca.example/" + long}}, "")
			return s.Client()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				err := Cause(s.getOrder(t, s.ca(f(s))))
				if err == nil || len(err.Error()) > 2<<10+64 || !utf8.ValidString(err.Error()) {
					t.Errorf("%.100v", err)
				}
				for cause := err; cause != nil; cause = errors.Unwrap(cause) {
					if n := len(cause.Error()); n > 2<<10+64 {
						t.Errorf("a cause holds %d bytes", n)
					}
				}
				if name == "status line" && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%.100v does not wrap its cause", err)
				}
			})
		})
	}
}

// Responses of normal size are not changed.
func TestLongAnswersThatAreLegalWork(t *testing.T) {
	location := "https://ca.example/order/" + strings.Repeat("x", 500)
	for name, try := range map[string]func(t *testing.T, s *site) error{
		"directory": func(t *testing.T, s *site) error {
			s.Edit(at(acmetest.Directory), func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) { o["meta"] = map[string]any{"website": strings.Repeat("x", 200_000)} })
			})
			return s.getOrder(t, s.ca(s.Client()))
		},
		"location": func(t *testing.T, s *site) error {
			s.Respond(at(acmetest.NewOrder), http.StatusCreated, http.Header{"Location": {location}}, pendingOrder)
			order, err := s.client(s.ca(s.Client())).AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
			if err == nil && order.URI != location {
				err = fmt.Errorf("the order's URL is %q", order.URI)
			}
			return err
		},
		"order": func(t *testing.T, s *site) error {
			s.Edit(at(acmetest.Order), func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) { o["note"] = strings.Repeat("x", 200_000) })
			})
			return s.getOrder(t, s.ca(s.Client()))
		},
		"chain": func(t *testing.T, s *site) error {
			block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: make([]byte, 30_000)})
			up := http.Header{"Content-Type": {"application/pem-certificate-chain"}}
			for i := range 20 {
				up.Add("Link", fmt.Sprintf(`<https://ca.example/chain/%d>;rel="up"`, i))
			}
			s.Respond(at(acmetest.Order), http.StatusOK, up, strings.Repeat(string(block), 4))
			chain, err := s.client(s.ca(s.Client())).FetchCert(t.Context(), s.order, true)
			if err == nil && len(chain) != 4 {
				err = fmt.Errorf("%d certificates", len(chain))
			}
			return err
		},
		"alternate chains": func(t *testing.T, s *site) error {
			links := http.Header{"Link": {`<https://ca.example/1>;rel="alternate"`, `<https://ca.example/2>;rel="alternate"`}}
			chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"})
			s.Respond(at(acmetest.Order), http.StatusOK, links, string(chain))
			urls, err := s.client(s.ca(s.Client())).ListCertAlternates(t.Context(), s.order)
			if err == nil && len(urls) != 2 {
				err = fmt.Errorf("alternates %q", urls)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := try(t, newSite(t)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
