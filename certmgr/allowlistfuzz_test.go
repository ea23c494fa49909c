package certmgr

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// FuzzAllowlistFile: whatever is in an Allowlist's file, it is refused in one line
// of bounded length, or its entries are in their one form, and a file of them is
// the same list.
func FuzzAllowlistFile(f *testing.F) {
	for _, content := range []string{"", "# empty", "a.example.com\n", "a.example.com # x\r\n*.example.org", "\xef\xbb\xbf# x\n\na.example.com",
		"com\n10.0.0.1\nsingle\n*.co.uk", "a.example.com\x00", strings.Repeat("bad\n", 300)} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, err := parseHosts(t.Context(), "hosts.txt", bytes.NewReader(content))
		if err != nil {
			if text := err.Error(); len(text) > 250_000 || strings.ContainsAny(text, "\n\r\x00\x1b") {
				t.Fatalf("the error is %d bytes: %q", len(text), text)
			}
			return
		}
		for _, entry := range entries {
			if again, err := parseEntry(entry); again != entry || err != nil {
				t.Fatalf("%q read again is %q, %v", entry, again, err)
			}
		}
		if len(entries) == 0 {
			return
		}
		again, err := parseHosts(t.Context(), "again", strings.NewReader(strings.Join(entries, "\n")))
		if err != nil || !slices.Equal(again, entries) {
			t.Fatalf("%q written and read is %q, %v", entries, again, err)
		}
	})
}
