package order

import (
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

// NamesError is the failure of an order that is only about some of its names. An
// order without them may succeed.
type NamesError struct {
	Failed map[string]error // why, by name; not all names of the order
	Err    error            // the failure of the order
}

// Error returns the text of the order's failure.
func (e *NamesError) Error() string { return text.Of(e.Err) }

// Unwrap returns the order's failure.
func (e *NamesError) Unwrap() error { return e.Err }

// blame returns err as a *NamesError if it is about some of the names.
func (c *conversation) blame(failed map[string]error, err error) error {
	if len(failed) == 0 || len(failed) >= len(c.req.Names) {
		return err
	}
	return &NamesError{Failed: failed, Err: err}
}

// blameNamed is blame for a problem of the CA's that names identifiers: in
// subproblems (RFC 8555, section 6.7.1), or, if there are none, in its text. That
// is how Boulder reports a single name that it rejects, and names that it has
// paused.
func (c *conversation) blameNamed(err error) error {
	if len(c.req.Names) == 1 {
		return err
	}
	failed := make(map[string]error)
	for _, p := range text.Problems(err) {
		if len(p.Subproblems) == 0 && isAboutNames(p) {
			for _, name := range c.req.Names {
				if says(p.Detail, name) {
					failed[name] = acmeclient.BoundProblem(p)
				}
			}
		}
		for _, sub := range p.Subproblems {
			if sub.Identifier == nil {
				continue
			}
			if name, ok := nameOf(*sub.Identifier, c.req.Names); ok {
				failed[name] = acmeclient.BoundProblem(&acme.Error{StatusCode: p.StatusCode, ProblemType: sub.Type, Detail: sub.Detail, Instance: sub.Instance})
			}
		}
	}
	return c.blame(failed, err)
}

// isAboutNames reports whether a problem is about the names that its text says. A
// rate limit is about a registered domain, which may be one of them.
func isAboutNames(p *acme.Error) bool {
	if p.StatusCode < 400 || p.StatusCode >= 500 {
		return false
	}
	return acmeclient.IsPause(p) || !acmeclient.IsRateLimited(p)
}

// says reports whether a text has a name as a whole, and not as the end of
// another one.
func says(detail, name string) bool {
	detail = strings.ToLower(detail)
	for from := 0; ; {
		i := strings.Index(detail[from:], name)
		if i < 0 {
			return false
		}
		begin, end := from+i, from+i+len(name)
		if !endsInName(detail[:begin]) && !beginsInName(detail[end:]) {
			return true
		}
		from = begin + 1
	}
}

// endsInName reports whether what precedes a name in a text is part of the name.
func endsInName(before string) bool {
	return before != "" && (isNameByte(before[len(before)-1]) || before[len(before)-1] == '.')
}

// beginsInName is endsInName for what follows. A dot ends a sentence, unless a name
// goes on after it.
func beginsInName(after string) bool {
	after, _ = strings.CutPrefix(after, ".")
	return after != "" && isNameByte(after[0])
}

func isNameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '_'
}
