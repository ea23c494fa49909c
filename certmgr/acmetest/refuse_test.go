package acmetest_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestPauseName(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := newACMEClient(t, s)
	client.RetryBackoff = func(int, *http.Request, *http.Response) time.Duration { return -1 } // it repeats a 429
	lift := s.PauseName("*.A.example.com").Lift
	_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("c.a.example.com", "b.example.com", "b.a.example.com"))
	problem, ok := errors.AsType[*acme.Error](err)
	if !ok || problem.StatusCode != http.StatusTooManyRequests || problem.ProblemType != "urn:ietf:params:acme:error:rateLimited" ||
		problem.Header.Get("Retry-After") != "" || lastRequest(s).Fault != "PauseName" {
		t.Fatalf("%#v, log entry %+v", err, lastRequest(s))
	}
	text, link, _ := strings.Cut(problem.Detail, " Please visit: ")
	const want = "Your account is temporarily prevented from requesting certificates for b.a.example.com, c.a.example.com and possibly others."
	if text != want {
		t.Errorf("text %q, want %q", text, want)
	}
	if u, err := url.Parse(link); err != nil || u.Path != "/sfe/v1/unpause" || strings.Count(u.Query().Get("jwt"), ".") != 2 || len(link) < 700 {
		t.Errorf("link %q, %v", link, err)
	}
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("b.example.com")); err != nil {
		t.Errorf("another name: %v", err)
	}
	lift()
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("b.a.example.com")); err != nil {
		t.Errorf("after the lift: %v", err)
	}
}

func TestRejectName(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	client := newACMEClient(t, s)
	lift := s.RejectName("*.bad.example.com").Lift
	s.RejectName("worse.example.com", acmetest.Times(1))
	for i, tt := range []struct {
		hosts []string
		want  []string // rejected
	}{
		{[]string{"good.example.com"}, nil},
		{[]string{"good.example.com", "a.bad.example.com"}, []string{"a.bad.example.com"}},
		{[]string{"worse.example.com", "good.example.com", "a.bad.example.com", "b.bad.example.com"},
			[]string{"a.bad.example.com", "b.bad.example.com", "worse.example.com"}},
		{[]string{"worse.example.com"}, nil}, // that was once
	} {
		_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs(tt.hosts...))
		problem, _ := errors.AsType[*acme.Error](err)
		if len(tt.want) == 0 {
			if err != nil {
				t.Errorf("order %d: %v", i, err)
			}
			continue
		}
		if problem == nil || problem.StatusCode != http.StatusBadRequest || !strings.HasSuffix(problem.ProblemType, ":rejectedIdentifier") ||
			!strings.Contains(problem.Detail, `Cannot issue for "`+tt.want[0]+`": `) || lastRequest(s).Fault != "RejectName" {
			t.Fatalf("order %d: %v", i, err)
		}
		var listed []string
		for _, sub := range problem.Subproblems {
			if sub.Type != problem.ProblemType || !strings.Contains(sub.Detail, sub.Identifier.Value) {
				t.Errorf("order %d: subproblem %+v", i, sub)
			}
			listed = append(listed, sub.Identifier.Value)
		}
		if want := tt.want; len(want) == 1 && listed != nil || len(want) > 1 && strings.Join(listed, ",") != strings.Join(want, ",") {
			t.Errorf("order %d: subproblems for %v", i, listed)
		}
	}
	lift()
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.bad.example.com")); err != nil {
		t.Errorf("after the lift: %v", err)
	}
}
