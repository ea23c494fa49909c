package guard

import (
	"bytes"
	"fmt"
	"testing"
)

// mostLines is how long a Go file may be, tests included.
const mostLines = 400

// longFiles are those that may be longer, by path from the root, with why.
var longFiles = tolerated{}

// Every Go file of the repository, nested modules included, can be read in one go.
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
