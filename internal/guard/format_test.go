package guard

import (
	"bytes"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every Go file of the repository, including nested modules, is formatted by
// gofmt.
func TestSourceIsFormatted(t *testing.T) {
	for path, source := range goFiles(t) {
		if formatted, err := format.Source(source); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if !bytes.Equal(source, formatted) {
			t.Errorf("%s is not formatted: run gofmt -w on it", path)
		}
	}
}

// goFiles returns the Go files of the repository, by path from the root. It
// reads all of them, so any change makes cached results of this package stale:
// go test cannot know what the go command reads for the other tests.
func goFiles(t *testing.T) map[string][]byte {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	files := make(map[string][]byte)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			// Like the go command, and without the repository's own data.
			if path != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		files[path], err = fs.ReadFile(root, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no Go file")
	}
	return files
}
