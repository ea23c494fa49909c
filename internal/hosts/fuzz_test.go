package hosts

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/internal/text"
)

// FuzzNormalize: any SNI is refused in one line of bounded length, or becomes a
// host name in its normal form.
func FuzzNormalize(f *testing.F) {
	for _, name := range []string{"", ".", "example.com", "EXAMPLE.com.", "bücher.example", "xn--bcher-kva.example", "σς.example",
		"a..b", "192.0.2.1", "１.2.3.4", "2001:db8::1", "*.example.com", "a_b.example.com", "例え。example", "exam\u00adple.com",
		"\xff.example", "aℵb.example", "xn--.com", "xn--a.com", "localhost", "example.com:443", "\x00", strings.Repeat("a", 300) + ".com"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		host, err := Normalize(name)
		if err != nil {
			if line := err.Error(); host != "" || len(line) > text.MaxError || strings.ContainsAny(line, "\n\r\x00\x1b") {
				t.Fatalf("Normalize(%q) = %q, %q", name, host, line)
			}
			return
		}
		if again, err := Normalize(host); again != host || err != nil {
			t.Fatalf("Normalize(%q) = %q, but normalized again it is %q, %v", name, host, again, err)
		}
		if !validLabels(host) || !strings.Contains(host, ".") || net.ParseIP(host) != nil {
			t.Fatalf("Normalize(%q) = %q, which is no host name", name, host)
		}
		if unicode, err := idna.Lookup.ToUnicode(host); err != nil {
			t.Fatalf("Normalize(%q) = %q, of which IDNA says %v (%q)", name, host, err, unicode)
		}
		for _, same := range []string{strings.ToUpper(host), host + "."} {
			if got, err := Normalize(same); got != host {
				t.Fatalf("Normalize(%q) = %q, %v, want %q", same, got, err, host)
			}
		}
	})
}

// FuzzParseFile: any file is refused in one line of bounded length, or its
// entries are in normal form and parse to the same list again.
func FuzzParseFile(f *testing.F) {
	for _, content := range []string{"", "# empty", "a.example.com\n", "a.example.com # x\r\n*.example.org", "\xef\xbb\xbf# x\n\na.example.com",
		"com\n10.0.0.1\nsingle\n*.co.uk", "a.example.com\x00", strings.Repeat("bad\n", 300)} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, err := parseFile(t.Context(), "hosts.txt", bytes.NewReader(content))
		if err != nil {
			if text := err.Error(); len(text) > 250_000 || strings.ContainsAny(text, "\n\r\x00\x1b") {
				t.Fatalf("the error is %d bytes: %q", len(text), text)
			}
			return
		}
		for _, entry := range entries {
			if again, err := ParseEntry(entry); again != entry || err != nil {
				t.Fatalf("%q read again is %q, %v", entry, again, err)
			}
		}
		if len(entries) == 0 {
			return
		}
		again, err := parseFile(t.Context(), "again", strings.NewReader(strings.Join(entries, "\n")))
		if err != nil || !slices.Equal(again, entries) {
			t.Fatalf("%q written and read is %q, %v", entries, again, err)
		}
	})
}
