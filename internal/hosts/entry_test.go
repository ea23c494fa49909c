package hosts

import (
	"fmt"
	"strings"
	"testing"
)

// What no CA certifies is refused, with the exact reason.
func TestInvalidEntriesSayWhy(t *testing.T) {
	for entry, why := range map[string]string{
		"com":                     "a public suffix, which",
		"co.uk":                   "a public suffix, which",
		"CO.UK.":                  "a public suffix, which",
		"foo.ck":                  "a public suffix, which", // the list has *.ck
		"*.co.uk":                 "a wildcard directly below a public suffix",
		"*.com":                   "a wildcard directly below a public suffix",
		"localhost":               "a single label",
		"*.internal":              "a single label",
		"192.0.2.1:443":           "leave out the port",
		"*.192.0.2.1":             "list each address",
		"fe80::1%eth0":            "with a zone",
		"[2001:db8::1":            "odd brackets",
		"":                        "no name",
		"*.":                      "no name",
		"*":                       "stands for one label",
		"*.*.example.com":         "stands for one label",
		"www.*.example.com":       "stands for one label",
		"https://example.com/":    "leave out scheme, port and path",
		"example.com:443":         "leave out scheme, port and path",
		"under_score.example.com": "not a valid host name",
		"-a.example.com":          "not a valid host name",
		"a..example.com":          "not a valid host name",
		"w\x00w\x00w\x00.\x00":    "as UTF-16 has; if this is from a file, save it",
		"*.b\xfccher.example.com": "the byte 0xfc is not UTF-8",
	} {
		_, err := ParseEntry(entry)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), fmt.Sprintf("%q", entry)) {
			t.Errorf("ParseEntry(%q): %v; want the reason %q", entry, err, why)
			continue
		}
		if _, ok := err.(*EntryError); !ok || strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("ParseEntry(%q): %q is not one line of an *EntryError", entry, err)
		}
	}
	// Suffixes of the list's private section are registered domains.
	for _, entry := range []string{"github.io", "*.github.io", "www.ck", "host.internal", "*.b\u00fccher.example", "\u0440\u0444.\u0440\u0444"} {
		if _, err := ParseEntry(entry); err != nil {
			t.Errorf("ParseEntry(%q): %v", entry, err)
		}
	}
}

// An error names the first 100 of thousands, each with bounded length, and
// counts the rest.
func TestErrorOfThousandsOfBadEntriesIsBounded(t *testing.T) {
	names := func(yield func(string) bool) {
		for i := range 5000 {
			if !yield(fmt.Sprintf("bad%d", i)) || !yield(fmt.Sprintf("good%d.example.com", i)) {
				return
			}
		}
		yield(strings.Repeat("\x00", 1<<20))
	}
	_, err := ParseEntries(names)
	if err == nil {
		t.Fatal("bad names were accepted")
	}
	line := err.Error()
	for _, want := range []string{"5001 invalid allowlist entries", `"bad0":`, `"bad99":`, "and 4901 more"} {
		if !strings.Contains(line, want) {
			t.Errorf("%.300q ... does not say %q", line, want)
		}
	}
	if strings.Contains(line, `"bad100":`) || strings.Contains(line, "good") || len(line) > 100*200 {
		t.Errorf("the error has %d bytes", len(line))
	}
	_, err = ParseEntry(strings.Repeat("\x00", 1<<20))
	if len(err.Error()) > 4*MaxLength+500 {
		t.Errorf("the error of one long name has %d bytes", len(err.Error()))
	}
}
