package hosts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nostall/nostall/internal/text"
)

// maxLine bounds a line of a list's file, its comment included.
const maxLine = 64 << 10

// emptyMark is the comment that says that a file without entries is meant so.
const emptyMark = "empty"

// parseFile reads a list's file: one entry a line, "#" begins a comment,
// and blank lines, CRLF and a byte order mark are tolerated. name is for errors,
// which have the numbers of the lines. It gives up when ctx ends.
func parseFile(ctx context.Context, name string, r io.Reader) (entries []string, err error) {
	var bad badEntries
	empty := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return nil, &FileError{context.Cause(ctx)}
		}
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // UTF-8's byte order mark
		}
		written, comment, _ := bytes.Cut(line, []byte("#"))
		empty = empty || strings.EqualFold(string(bytes.TrimSpace(comment)), emptyMark)
		written = bytes.Trim(written, " \t")
		if len(written) == 0 {
			continue
		}
		entry, err := ParseEntry(string(written))
		if wrong, ok := err.(*EntryError); ok {
			wrong.Place = place(name, n)
			bad.add(wrong)
			continue
		}
		entries = append(entries, entry)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		bad.add(fmt.Errorf("%s: a line of more than %d bytes; entries have one line each", place(name, n+1), maxLine))
	} else if err != nil {
		return nil, &FileError{err}
	}
	if bad.n == 0 && len(entries) == 0 && !empty {
		return nil, fmt.Errorf(`allowlist file %s has no entry, which may be an accident; if it is not, write "# %s" into it`,
			FileName(name), emptyMark)
	}
	return entries, bad.err()
}

// place is where a line is, as compilers and editors write it.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", FileName(file), line) }

// FileName returns a path as texts name it.
func FileName(path string) string { return text.OneLine(path, MaxLength) }
