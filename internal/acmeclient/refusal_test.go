package acmeclient

import (
	"net/http"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A refusal is told with the URL of the request, in words.
func TestRefusalsAreToldInWords(t *testing.T) {
	const urn = "urn:ietf:params:acme:error:"
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"problem":      {403, `{"type":"` + urn + `unauthorized","detail":"no"}`, "403 " + urn + "unauthorized: no"},
		"no type":      {403, `{"detail":"no"}`, "403: no"},
		"empty object": {403, `{}`, "403, and the CA gave no reason"},
		"no body":      {403, ``, "403 Forbidden"},
		"HTML":         {403, "<html><title>\nBlocked \n</title><p>by a proxy", `403 with an HTML page "Blocked"`},
		"heading":      {403, "<h1>Blocked</h1>", `403 with an HTML page "Blocked"`},
		"other HTML":   {403, "<p>no", "403 with an HTML page"},
		"text":         {403, "no\n", "403: no"},
		"304":          {304, "", "status 304, which means nothing here (RFC 8555)"},
		"300":          {300, pendingOrder, "status 300, which means nothing here (RFC 8555)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.Respond(at(acmetest.Order), tt.status, nil, tt.body)
			err := Cause(s.getOrder(t, s.ca(s.Client())))
			if want := "CA " + s.order + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got %q, want %q", err, want)
			}
			p, ok := Problem(err)
			if !ok || p.StatusCode != tt.status {
				t.Fatalf("%v has no problem", err)
			}
			if takeURL(p.Header) != "" {
				t.Error("the header holds the URL")
			}
			if Cause(err) != err {
				t.Error("Cause changes its own result")
			}
		})
	}
}

func TestGivesReason(t *testing.T) {
	for _, p := range []*acme.Error{nil, {}, {StatusCode: http.StatusForbidden}} {
		if GivesReason(p) {
			t.Errorf("%v gives a reason", p)
		}
	}
	for _, p := range []*acme.Error{{ProblemType: "x"}, {Detail: "x"}, {Subproblems: []acme.Subproblem{{}}}} {
		if !GivesReason(p) {
			t.Errorf("%v gives no reason", p)
		}
	}
}
