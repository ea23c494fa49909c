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

// maxLine is the longest line of a list's file, in bytes, including its
// comment.
const maxLine = 64 << 10

// emptyMark is the comment that marks a file as intentionally empty.
const emptyMark = "empty"

// parseFile parses a list's file: one entry a line, in UTF-8, "#" begins a
// comment. A line with several names is a group. Blank lines, CRLF and a byte order mark are tolerated. name appears in errors, with
// line numbers. It stops when ctx ends.
func parseFile(ctx context.Context, name string, r io.Reader) (entries []string, err error) {
	file := bufio.NewReader(r)
	head, _ := file.Peek(headSize) // an error comes again below
	if is := encodingOf(head); is != "" {
		return nil, fmt.Errorf("allowlist file %s is in %s; %s", FileName(name), is, saveAsUTF8)
	}
	var bad badEntries
	var groups membership
	empty := false
	lines := bufio.NewScanner(file)
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
		if err == nil {
			err = groups.check(entry)
		}
		if wrong, ok := err.(*EntryError); ok {
			wrong.Place = place(name, n)
			bad.add(wrong)
			continue
		}
		entries = append(entries, entry)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		bad.add(fmt.Errorf("%s: a line of more than %d bytes; write one entry per line", place(name, n+1), maxLine))
	} else if err != nil {
		return nil, &FileError{err}
	}
	if bad.n == 0 && len(entries) == 0 && !empty {
		return nil, fmt.Errorf(`allowlist file %s has no entries, which may be an accident; if it is intended, write "# %s" into it`,
			FileName(name), emptyMark)
	}
	return entries, bad.err()
}

// place formats a file and line the way compilers and editors do.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", FileName(file), line) }

// FileName returns a path in the form that errors and events use.
func FileName(path string) string { return text.OneLine(path, MaxLength) }
