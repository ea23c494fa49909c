package certmgr

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

// maxHostsLine bounds a line of an Allowlist's file, its comment included.
const maxHostsLine = 64 << 10

// emptyMark is the comment that says that a file without entries is meant so.
const emptyMark = "empty"

// parseHosts reads an Allowlist's file: one entry a line, "#" begins a comment,
// and blank lines, CRLF and a byte order mark are borne with. name is for errors,
// which have the numbers of the lines. It gives up when ctx ends.
func parseHosts(ctx context.Context, name string, r io.Reader) (entries []string, err error) {
	var bad badEntries
	empty := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxHostsLine)
	n := 0
	for lines.Scan() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return nil, &fileError{context.Cause(ctx)}
		}
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // UTF-8's byte order mark
		}
		text, comment, _ := bytes.Cut(line, []byte("#"))
		empty = empty || strings.EqualFold(string(bytes.TrimSpace(comment)), emptyMark)
		text = bytes.Trim(text, " \t")
		if len(text) == 0 {
			continue
		}
		entry, err := parseEntry(string(text))
		if wrong, ok := err.(*badEntry); ok {
			wrong.where = place(name, n)
			bad.add(wrong)
			continue
		}
		entries = append(entries, entry)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		bad.add(fmt.Errorf("%s: a line of more than %d bytes; entries have one line each", place(name, n+1), maxHostsLine))
	} else if err != nil {
		return nil, &fileError{err}
	}
	if bad.n == 0 && len(entries) == 0 && !empty {
		return nil, fmt.Errorf(`certmgr: allowlist file %s has no entry, which may be an accident; if it is not, write "# %s" into it`,
			fileName(name), emptyMark)
	}
	return entries, bad.err()
}

// place is where a line is, as compilers and editors write it.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", fileName(file), line) }

func fileName(path string) string { return text.OneLine(path, maxHostLength) }
