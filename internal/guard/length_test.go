package guard

import (
	"bytes"
	"fmt"
	"testing"
)

// mostLines is the longest that a Go file may be, including tests.
const mostLines = 400

// longFiles holds exceptions, by path from the root, with the reason.
var longFiles = tolerated{}

// Every Go file of the repository, including nested modules, is short enough to
// read in one go.
func TestFilesAreShort(t *testing.T) {
	found := make(map[string]string)
	for path, source := range goFiles(t) {
		if lines := bytes.Count(source, []byte("\n")); lines > mostLines {
			found[path] = fmt.Sprintf("%d lines (at most %d): split it by topic, so that each file's name says what is in it",
				lines, mostLines)
		}
	}
	longFiles.check(t, "longFiles", found)
}
