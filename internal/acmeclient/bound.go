package acmeclient

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"unicode/utf8"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/text"
)

// Limits on what is kept of a CA's responses. Errors are kept for each failed
// host, of which there may be 10,000, in event queues and in histories, and
// wrapping repeats an error's text. One attempt leaves behind less than 16 KB.
const (
	maxHeader      = 4 << 10 // of a response, as headerSize counts
	maxHeaderValue = 1 << 10 // longer values are dropped
	maxProblem     = 1280    // all texts of a problem document, without their links
	maxDetail      = 1 << 10 // its detail; a *certmgr.IssuanceError shows no more
	maxProblemText = 256     // each of its other texts
	maxErrorText   = 1 << 10 // of an error that is not a problem document
	maxDisplayURL  = text.MaxLinks
)

// neededHeaders returns the fields that this package and x/crypto/acme read,
// and then those that identify the server.
func neededHeaders() []string {
	return []string{retryAfterHeader, replayNonce, "Location", "Content-Type", "Date", "Age", "Link", "Server"}
}

// boundHeader returns a copy of a header. Of a large header it keeps only the
// needed fields.
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

// fieldSize is the size of a field in RFC 9113, section 6.5.2, with its
// overhead.
func fieldSize(name, value string) int { return len(name) + len(value) + 32 }

// BoundProblem truncates the texts of a problem in place, drops the subproblems
// that do not fit, and returns it. Links stay whole, up to text.MaxLinks bytes of
// the detail and as many of the instance: in them a CA says what to do. The caller must be the only one to hold e.
// Call it for problems in successful responses, such as those of orders and
// challenges; Cause handles the others.
func BoundProblem(e *acme.Error) *acme.Error {
	room := text.Room{Text: maxProblem, Links: 2 * text.MaxLinks}
	take := func(s *string, limit int) { *s = room.Take(*s, limit) }
	take(&e.ProblemType, maxProblemText)
	if len(e.Instance) > text.MaxLinks {
		e.Instance = "" // part of a URL leads nowhere
	}
	take(&e.Instance, maxProblemText)
	take(&e.Detail, maxDetail)
	var kept []acme.Subproblem // a copy: a subslice would retain the others
	for _, sub := range e.Subproblems {
		if room.Text -= 128; room.Text <= 0 { // its size without texts
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

// boundError bounds an error that may quote a response. If its text is too
// long, only the beginning of the text is kept: a wrapped error would retain
// all of it.
func boundError(err error) error {
	if problem, ok := Problem(err); ok {
		BoundProblem(problem)
		return err
	}
	if err == nil {
		return nil
	}
	if s := err.Error(); len(s) > maxErrorText {
		return errors.New((&text.Room{Text: maxErrorText, Links: text.MaxLinks}).Take(s, maxErrorText))
	}
	return err
}

// cut returns s, or its beginning and a mark, in at most limit bytes. It does
// not split a rune.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "... (cut short)"
	n := limit - len(mark)
	if n <= 0 {
		return ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
