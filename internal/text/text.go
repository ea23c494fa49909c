// Package text formats the texts of errors and events: single lines of bounded
// length, whatever CAs, clients and callbacks put into them. It imports no
// other package of this module.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/acme"
)

// MaxError is the longest text of an error, in bytes: causes come from CAs and
// clients.
const MaxError = 1024

// Of returns the text of err. err may be nil, or an error whose Error method
// panics, as on a nil pointer.
func Of(err error) string { return fmt.Sprint(err) }

// WithTail returns head and tail as one line of at most limit bytes. If it is
// too long, head is cut. The tail must be printable.
func WithTail(head, tail string, limit int) string {
	return OneLine(OneLine(head, limit-len(tail))+tail, limit)
}

// OneLine escapes what would break a log line or a terminal, and cuts the text
// to limit bytes at a rune boundary. If limit is not positive, the result is
// empty.
func OneLine(s string, limit int) string {
	if limit <= 0 {
		return ""
	}
	if len(s)/4 > limit { // 4*limit may overflow
		s = s[:4*limit]
	}
	clean := true
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			clean = false
			break
		}
	}
	if !clean {
		q := strconv.Quote(s)
		s = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	}
	if len(s) <= limit {
		return s
	}
	const cut = "..."
	if limit <= len(cut) {
		return cut[:limit]
	}
	n := limit - len(cut)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + cut
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
