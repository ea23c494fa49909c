package acmetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// errorPrefix is the namespace of ACME's error types (RFC 8555, section 6.7).
const errorPrefix = "urn:ietf:params:acme:error:"

// Problem is a problem document (RFC 7807) with an ACME error type.
type Problem struct {
	// Type is the error type, such as "rateLimited", with or without the prefix
	// "urn:ietf:params:acme:error:". Empty means a type that fits the status.
	Type string
	// Detail is the text for humans.
	Detail string
	// Status is the HTTP status; zero means the usual one for Type.
	Status int
	// Subproblems are the problems of individual identifiers; nil means none.
	Subproblems []Subproblem

	algorithms []string // with badSignatureAlgorithm
	allow      string   // with 405
	location   string   // with 409
	terms      string   // with userActionRequired: target of a Link with rel="terms-of-service"
	instance   string   // URL of instructions for a human

	retryAfter time.Duration // with rateLimited; zero means no Retry-After
}

// Subproblem is the part of a problem that concerns one identifier (RFC 8555,
// section 6.7.1).
type Subproblem struct {
	// Type is the error type, as in Problem.
	Type string
	// Detail is the text for humans.
	Detail string
	// Host is the identifier concerned: a name, a wildcard or an IP address.
	Host string
}

// Error returns the type and the detail.
func (p *Problem) Error() string { return shortType(p.Type) + ": " + p.Detail }

// within returns p with where prefixed to its detail.
func (p *Problem) within(where string) *Problem {
	p.Detail = where + ": " + p.Detail
	return p
}

// problemf returns a problem of the given type with its usual status.
func problemf(typ, format string, args ...any) *Problem {
	return &Problem{Type: typ, Detail: fmt.Sprintf(format, args...)}
}

// fullType adds ACME's prefix to a type that is not an absolute URI.
func fullType(typ string) string {
	if strings.Contains(typ, ":") {
		return typ
	}
	return errorPrefix + typ
}

// shortType removes ACME's prefix from a type.
func shortType(typ string) string { return strings.TrimPrefix(typ, errorPrefix) }

// filled returns p with a missing type or status derived from the other.
func (p Problem) filled() Problem {
	if p.Type == "" {
		switch {
		case p.Status == http.StatusTooManyRequests:
			p.Type = "rateLimited"
		case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden:
			p.Type = "unauthorized"
		case p.Status >= 400 && p.Status < 500:
			p.Type = "malformed"
		default:
			p.Type = "serverInternal"
		}
	}
	if p.Status == 0 {
		p.Status = usualStatus(shortType(p.Type))
	}
	return p
}

// usualStatus returns the HTTP status that Boulder sends with an error type.
func usualStatus(typ string) int {
	switch typ {
	case "unauthorized", "orderNotReady", "externalAccountRequired", "userActionRequired", "caa", "incorrectResponse":
		return http.StatusForbidden
	case "rateLimited":
		return http.StatusTooManyRequests
	case "alreadyReplaced", "conflict":
		return http.StatusConflict
	case "serverInternal":
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// MarshalJSON returns the problem document.
func (p Problem) MarshalJSON() ([]byte, error) {
	type subproblem struct {
		Type       string     `json:"type"`
		Detail     string     `json:"detail,omitempty"`
		Identifier identifier `json:"identifier"`
	}
	p = p.filled()
	var subs []subproblem
	for _, sub := range p.Subproblems {
		subs = append(subs, subproblem{fullType(sub.Type), sub.Detail, identifierOf(nameSent(sub.Host))})
	}
	return json.Marshal(struct {
		Type        string       `json:"type"`
		Detail      string       `json:"detail,omitempty"`
		Status      int          `json:"status"`
		Subproblems []subproblem `json:"subproblems,omitempty"`
		Algorithms  []string     `json:"algorithms,omitempty"`
		Instance    string       `json:"instance,omitempty"`
	}{fullType(p.Type), p.Detail, p.Status, subs, p.algorithms, p.instance})
}
