package acmeclient

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// bodies returns responses that are as bad as a CA can make them, and what is
// said of each; nothing if it is parsed.
func bodies() map[string]struct{ body, want string } {
	list := func(n int, element string) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	order := func(members string) string { return `{"status":"pending",` + members + `}` }
	return map[string]struct{ body, want string }{
		"order for 100 names": {order(`"identifiers":[` + list(100, `{"type":"dns","value":"a.example.com"}`) +
			`],"authorizations":[` + list(100, `"https://ca.example/authz/1"`) + `]`), ""},
		"4,000 authorizations": {order(`"authorizations":[` + list(4000, `"https://ca.example/authz/1"`) + `]`), "more than 2000 values"},
		"4,000 identifiers":    {order(`"identifiers":[` + list(4000, `{"type":"dns","value":"a"}`) + `]`), "more than 2000 values"},
		"4,000 challenges":     {order(`"challenges":[` + list(4000, `{"type":"http-01"}`) + `]`), "more than 2000 values"},
		"4,000 subproblems":    {`{"type":"a:b","subproblems":[` + list(4000, `{"type":"a:b"}`) + `]}`, "more than 2000 values"},
		"4,000 members":        {order(list(4000, `"a":1`)), "more than 2000 values"},
		"nested lists":         {strings.Repeat("[", 100_000), "deeper than 16 levels"},
		"nested objects":       {strings.Repeat(`{"a":`, 40_000), "deeper than 16 levels"},
		"brackets in a text":   {order(`"detail":"` + strings.Repeat(`[{,\"`, 5000) + `"`), ""},
		"escapes":              {order(`"detail":"\\","a":"\\\""`), ""},
		"5,000 PEM blocks":     {strings.Repeat("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", 4000), "more than 16 certificates"},
		"PEM without an end":   {strings.Repeat("-----BEGIN ", 20_000), "more than 16 certificates"},
		"chain of 16":          {strings.Repeat("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", 16), ""},
		"HTML":                 {"<html>" + strings.Repeat("[", 1000), ""},
		"nothing":              {"", ""},
		"half a text":          {`{"a":"\`, ""},
	}
}

// What is too much is refused before it is parsed, by a limit that the error
// names.
func TestShapeIsCheckedBeforeParsing(t *testing.T) {
	for name, tt := range bodies() {
		err := checkShape([]byte(tt.body))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		if tt.want == "" && strings.HasPrefix(tt.body, "{") && name != "half a text" && !json.Valid([]byte(tt.body)) {
			t.Errorf("%s: the test's document is damaged", name)
		}
	}
	for depth, want := range map[int]bool{maxNesting: true, maxNesting + 1: false} {
		doc := " \n" + strings.Repeat("[", depth) + strings.Repeat("]", depth)
		if err := checkShape([]byte(doc)); (err == nil) != want {
			t.Errorf("%d levels: %v", depth, err)
		}
	}
	for values, want := range map[int]bool{maxValues: true, maxValues + 1: false} {
		doc := "[" + strings.Repeat("1,", values-1) + "1]" // the list counts too
		if err := checkShape([]byte(doc)); (err == nil) != want {
			t.Errorf("%d values: %v", values, err)
		}
	}
}

// A response that has too much in it is asked for once. A refusal counts
// without its text.
func TestResponseWithTooMuchInItIsNotAskedForAgain(t *testing.T) {
	for name, tt := range bodies() {
		if tt.want == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				fault := s.Respond(at(acmetest.Order), http.StatusOK, nil, tt.body)
				err := s.getOrder(t, s.ca(s.Client()))
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "check the directory URL") {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				s.expect(t, acmetest.Order, 1)
				fault.Lift()
				s.Respond(at(acmetest.Order), http.StatusForbidden, nil, tt.body)
				err = s.getOrder(t, s.ca(s.Client()))
				if p, ok := Problem(Cause(err)); !ok || p.StatusCode != http.StatusForbidden {
					t.Errorf("as a refusal: %v", err)
				}
			})
		})
	}
}

// BenchmarkHostile is what it costs to look at responses of the largest size.
func BenchmarkHostile(b *testing.B) {
	all := bodies()
	all["one long text"] = struct{ body, want string }{body: `{"detail":"` + strings.Repeat("x", defaultBodyLimit-20) + `"}`}
	for name, tt := range all {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if checkShape([]byte(tt.body)) == nil {
					json.Valid([]byte(tt.body))
				}
			}
		})
	}
}
