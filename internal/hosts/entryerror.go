package hosts

import (
	"fmt"
	"strings"

	"github.com/nostall/nostall/internal/text"
)

// EntryError says what is wrong with one entry of a list.
type EntryError struct {
	Place string // file and line: "hosts.txt:3", or empty
	Entry string // as written
	Why   string // in words
}

// Error returns one line of bounded length.
func (e *EntryError) Error() string {
	entry := e.Entry
	if len(entry) > MaxLength {
		entry = entry[:MaxLength] + "..."
	}
	line := fmt.Sprintf("%q: %s", entry, text.OneLine(e.Why, MaxLength))
	if e.Place != "" {
		return e.Place + ": " + line
	}
	return line
}

// badEntries is the error of a list with invalid entries. The zero value holds
// none.
type badEntries struct {
	list []error // the first ones
	n    int     // number of all
}

// maxBadEntries is how many invalid entries an error names.
const maxBadEntries = 100

func (e *badEntries) add(err error) {
	if e.n++; e.n <= maxBadEntries {
		e.list = append(e.list, err)
	}
}

// err returns e, or nil if there are none.
func (e *badEntries) err() error {
	if e.n == 0 {
		return nil
	}
	return e
}

// Error returns one line, which names at most 100 entries.
func (e *badEntries) Error() string {
	var b strings.Builder
	b.WriteString("invalid allowlist entry: ")
	if e.n > 1 {
		b.Reset()
		fmt.Fprintf(&b, "%d invalid allowlist entries: ", e.n)
	}
	for i, err := range e.list {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	if more := e.n - len(e.list); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

func (e *badEntries) Unwrap() []error { return e.list }
