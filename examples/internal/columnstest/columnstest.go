// Package columnstest checks that an example's output fits a terminal.
package columnstest

import (
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nostall/nostall/examples/internal/columns"
)

// Run runs the example with its standard output redirected, and checks and
// returns what it prints. Tests that call it do not run in parallel.
func Run(t *testing.T, example func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		printed <- string(all)
	}()
	stdout := os.Stdout
	os.Stdout = w
	err = example()
	os.Stdout = stdout
	_ = w.Close()
	out := <-printed
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	Check(t, out)
	return out
}

// Check checks that each line of an output fits.
func Check(t *testing.T, out string) {
	t.Helper()
	if strings.TrimSpace(out) == "" {
		t.Error("nothing was printed")
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > columns.Width {
			t.Errorf("a line has %d columns, want at most %d: %s", n, columns.Width, line)
		}
	}
}
