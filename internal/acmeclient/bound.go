package acmeclient

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"unicode/utf8"

	"golang.org/x/crypto/acme"
)

// What outlives the request that an answer is for is bounded: errors are kept for
// each host that failed, of which there may be 10,000, in queues of events and in
// histories. An error's text is wrapped a few times, and repeated each time. All
// that one attempt leaves behind is less than 16 KB.
const (
	maxHeader      = 4 << 10 // of an answer, as headerSize counts
	maxHeaderValue = 1 << 10 // what is longer is left out
	maxProblem     = 1280    // the texts of a problem
	maxDetail      = 1 << 10 // of these; a *certmgr.IssuanceError shows no more
	maxProblemText = 256     // each of the others
	maxErrorText   = 1 << 10 // of an error that is not the CA's problem
	maxDisplayURL  = 1 << 10
)

// neededHeaders returns the fields that are read here and in x/crypto/acme, and then
// those that tell who answered.
func neededHeaders() []string {
	return []string{retryAfterHeader, replayNonce, "Location", "Content-Type", "Date", "Age", "Link", "Server"}
}

// boundHeader returns a copy of a header, or of what is needed of a large one.
func boundHeader(h http.Header) http.Header {
	names := neededHeaders()
	if headerSize(h) <= maxHeader {
		names = slices.Collect(maps.Keys(h))
	}
	kept, room := make(http.Header), maxHeader
	for _, name := range names {
		for _, value := range h[name] {
			if size := fieldSize(name, value); len(value) <= maxHeaderValue && size <= room {
				kept[name] = append(kept[name], value)
				room -= size
			}
		}
	}
	return kept
}

func headerSize(h http.Header) int {
	size := 0
	for name, values := range h {
		for _, value := range values {
			size += fieldSize(name, value)
		}
	}
	return size
}

// fieldSize counts as RFC 9113, section 6.5.2, does: with an overhead.
func fieldSize(name, value string) int { return len(name) + len(value) + 32 }

// BoundProblem bounds the texts of a problem that nobody else sees yet, and returns
// it. Subproblems that there is no room for are left out. It is for the problems in
// answers which succeeded, as those of orders and challenges are; Cause does it for
// the others.
func BoundProblem(e *acme.Error) *acme.Error {
	room := maxProblem
	take := func(s *string, max int) {
		*s = cut(*s, min(max, room))
		room -= len(*s)
	}
	take(&e.ProblemType, maxProblemText)
	take(&e.Detail, maxDetail)
	take(&e.Instance, maxProblemText)
	var kept []acme.Subproblem // a copy: a slice would hold the others
	for _, sub := range e.Subproblems {
		if room -= 128; room <= 0 { // what it takes without a text
			break
		}
		take(&sub.Type, maxProblemText)
		take(&sub.Detail, maxProblemText)
		take(&sub.Instance, maxProblemText)
		if sub.Identifier != nil {
			id := *sub.Identifier
			take(&id.Type, maxProblemText)
			take(&id.Value, maxProblemText)
			sub.Identifier = &id
		}
		kept = append(kept, sub)
	}
	e.Subproblems = slices.Clip(kept)
	return e
}

// boundError bounds an error that may quote an answer. One whose text is too long
// becomes that text's beginning: what it wraps would hold all of it.
func boundError(err error) error {
	if problem, ok := Problem(err); ok {
		BoundProblem(problem)
		return err
	}
	if err == nil {
		return nil
	}
	if text := err.Error(); len(text) > maxErrorText {
		return errors.New(cut(text, maxErrorText))
	}
	return err
}

// cut returns s, or its beginning and a mark, in at most max bytes that do not end
// within a rune.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	const mark = "... (cut short)"
	n := max - len(mark)
	if n <= 0 {
		return ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
