package columns_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nostall/nostall/examples/internal/columns"
)

func TestWrapFitsAndLosesNothing(t *testing.T) {
	long := strings.Repeat("x", 200)
	for name, text := range map[string]string{
		"empty":       "",
		"short":       "one line",
		"words":       strings.Repeat("some words and ", 20),
		"a long word": "a " + long + " b",
		"an address":  "see https://example.com/" + strings.Repeat("path/", 30) + "?a=1&b=2 for more",
		"fields":      "time=2026-11-23T00:46:06.313Z level=WARN " + strings.Repeat(`key="a value", `, 20),
		"exactly 80":  strings.Repeat("y", 80) + " " + strings.Repeat("z", 76) + " end",
		"characters":  strings.Repeat("µs ", 60) + strings.Repeat("ü", 100),
	} {
		for _, first := range []int{0, 12, 79} {
			got := columns.Wrap(text, "    ", first)
			for i, line := range strings.Split(got, "\n") {
				n := utf8.RuneCountInString(line)
				if i == 0 {
					n += first
				}
				if n > columns.Width {
					t.Errorf("%s from column %d: a line has %d columns: %q", name, first, n, line)
				}
			}
			squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
			if squeeze(got) != squeeze(text) {
				t.Errorf("%s from column %d: %q became %q", name, first, text, got)
			}
		}
	}
}
