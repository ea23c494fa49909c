// Package text formats the texts of errors and events: single lines of bounded
// length, whatever CAs, clients and callbacks put into them. It imports no
// other package of this module.
package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/acme"
)

// MaxError is the longest text of an error, in bytes: causes come from CAs and
// clients.
const MaxError = 1024

// Of returns the text of err, whose lines, as of joined errors, become clauses
// of one. err may be nil, or an error whose Error method panics, as on a nil
// pointer.
func Of(err error) string { return Flat(fmt.Sprint(err)) }

// Cause is Of for an error in the text of another one: it leaves out the
// package's name, which the text has at its beginning.
func Cause(err error) string { return strings.TrimPrefix(Of(err), "certmgr: ") }

// Flat joins the lines of s.
func Flat(s string) string {
	if !strings.ContainsAny(s, "\n\r") {
		return s
	}
	var b strings.Builder
	for line := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if before := b.String(); before != "" {
			if !strings.HasSuffix(before, ":") && !strings.HasSuffix(before, ";") {
				b.WriteByte(';')
			}
			b.WriteByte(' ')
		}
		b.WriteString(line)
	}
	return b.String()
}

// Join is errors.Join, but the text of its error is one line if those of errs
// are.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	return &joined{errs}
}

type joined struct{ errs []error }

func (j *joined) Error() string {
	texts := make([]string, len(j.errs))
	for i, err := range j.errs {
		texts[i] = Of(err)
	}
	return strings.Join(texts, "; ")
}

func (j *joined) Unwrap() []error { return j.errs }

// WithTail returns head and tail as one line of at most limit bytes. If it is
// too long, head is cut. The tail must be printable.
func WithTail(head, tail string, limit int) string {
	return OneLine(OneLine(head, limit-len(tail))+tail, limit)
}

// OneLine escapes what would break a log line or a terminal, and cuts the text
// to limit bytes, at a rune boundary and not within a link. If limit is not
// positive, the result is empty.
func OneLine(s string, limit int) string {
	if limit <= 0 {
		return ""
	}
	if len(s)/4 > limit { // 4*limit may overflow
		s = s[:4*limit]
	}
	if s = escape(s); len(s) <= limit {
		return s
	}
	return cut(s, limit)
}

// escape returns s without what would break a log line or a terminal. It does
// not change links.
func escape(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}

// Stamp returns t in UTC, to the second (RFC 3339).
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Skew says how far the local clock is off if the CA's clock is ahead of it by
// ahead.
func Skew(ahead time.Duration) string {
	side := "behind"
	if ahead < 0 {
		side = "ahead of"
	}
	return "the local clock is " + ahead.Abs().Round(time.Minute).String() + " " + side + " the CA's"
}

// Problems returns all of the CA's problem documents in the tree of err.
// errors.As would find only the first, which belongs to a challenge if an order
// failed too.
func Problems(err error) []*acme.Error {
	switch e := err.(type) {
	case nil:
		return nil
	case *acme.Error:
		if e == nil {
			return nil
		}
		return []*acme.Error{e}
	case interface{ Unwrap() error }:
		return Problems(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*acme.Error
		for _, cause := range e.Unwrap() {
			all = append(all, Problems(cause)...)
		}
		return all
	}
	return nil
}
