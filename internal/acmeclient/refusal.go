package acmeclient

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"
)

// refusedURL is the field in which a response of 300 or more carries the URL of
// its request to Cause, since an acme.Error has no place for it. No server can
// send a field with this name: net/http makes the first letter a capital.
const refusedURL = "request-url"

// takeURL removes the field refusedURL from a header and returns its value.
func takeURL(h map[string][]string) string {
	values := h[refusedURL]
	delete(h, refusedURL)
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// refusalError is a problem document with the URL of the request.
type refusalError struct {
	url     string
	problem *acme.Error
}

func (e *refusalError) Error() string {
	return "CA " + e.url + ": " + problemText(e.problem)
}

func (e *refusalError) Unwrap() error { return e.problem }

// Refusal returns the problem document of the last response within err that
// refused a request. A problem that an order or a challenge reports is none.
func Refusal(err error) (*acme.Error, bool) {
	var last *acme.Error
	switch e := err.(type) {
	case *refusalError:
		last = e.problem
	case interface{ Unwrap() error }:
		return Refusal(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			if p, ok := Refusal(cause); ok {
				last = p
			}
		}
	}
	return last, last != nil
}

// FailedURL returns the URL of the request.
func (e *refusalError) FailedURL() string { return e.url }

// problemText is the text of a problem. What is not a problem document, such as
// a proxy's page, is told in words.
func problemText(p *acme.Error) string {
	if p.ProblemType != "" || len(p.Subproblems) > 0 {
		return p.Error()
	}
	switch detail := strings.TrimSpace(p.Detail); {
	case p.StatusCode < 400:
		return fmt.Sprintf("status %d, which means nothing here (RFC 8555)", p.StatusCode)
	case detail == "":
		return fmt.Sprintf("%d, and the CA gave no reason", p.StatusCode)
	case isHTML(http.Header{}, []byte(detail)):
		return fmt.Sprintf("%d with an HTML page%s", p.StatusCode, title(detail))
	case strings.HasPrefix(detail, fmt.Sprint(p.StatusCode)):
		return detail // x/crypto/acme puts the status line there
	default:
		return fmt.Sprintf("%d: %s", p.StatusCode, detail)
	}
}

// title returns the title of an HTML page or its first heading, for an error.
func title(page string) string {
	for _, tag := range []string{"title", "h1"} {
		if _, rest, ok := strings.Cut(page, "<"+tag+">"); ok {
			text, _, _ := strings.Cut(rest, "<")
			return fmt.Sprintf(" %q", cut(strings.TrimSpace(text), maxProblemText))
		}
	}
	return ""
}

// GivesReason reports whether a problem says anything. Some CAs send an empty
// object.
func GivesReason(p *acme.Error) bool {
	return p != nil && (p.ProblemType != "" || p.Detail != "" || len(p.Subproblems) > 0)
}
