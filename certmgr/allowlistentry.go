package certmgr

import (
	"fmt"
	"iter"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/nostall/nostall/internal/text"
)

// parseEntries normalises entries. The error is a *badEntries.
func parseEntries(names iter.Seq[string]) ([]string, error) {
	var entries []string
	var bad badEntries
	for name := range names {
		entry, err := parseEntry(name)
		if err != nil {
			bad.add(err)
			continue
		}
		entries = append(entries, entry)
	}
	return entries, bad.err()
}

// parseEntry normalises an entry, and refuses what no public CA would certify.
func parseEntry(name string) (string, error) {
	base, wildcard := strings.CutPrefix(name, "*.")
	host, err := normalizeHost(base)
	if err != nil {
		return "", &badEntry{entry: name, why: whyNoHost(base, wildcard, err)}
	}
	if isPublicSuffix(host) {
		return "", &badEntry{entry: name, why: whySuffix(wildcard)}
	}
	if wildcard {
		return "*." + host, nil
	}
	return host, nil
}

// whyNoHost says in words what normalizeHost has against a name.
func whyNoHost(name string, wildcard bool, err error) string {
	_, notAddr := netip.ParseAddr(strings.Trim(name, "[]"))
	switch {
	case name == "":
		return "no name"
	case notAddr == nil:
		return "an IP address, which is no host name"
	case strings.ContainsAny(name, " \t"):
		return "not a host name: it contains a space"
	case strings.Contains(name, "*"):
		return `not a host name: a wildcard is "*." and a host name, and stands for one label`
	case strings.ContainsAny(name, ":/"):
		return "not a host name: leave out scheme, port and path"
	case isPublicSuffix(strings.ToLower(strings.TrimSuffix(name, "."))):
		return whySuffix(wildcard)
	}
	r, ok := err.(*refusal)
	if !ok {
		return err.Error()
	}
	if r.cause != nil {
		return r.text + ": " + r.cause.Error()
	}
	return r.text
}

// isPublicSuffix goes by the ICANN section alone, as CAs do.
func isPublicSuffix(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(host)
	return icann && suffix == host
}

func whySuffix(wildcard bool) string {
	if wildcard {
		return "a wildcard right below a public suffix, which no CA certifies"
	}
	return "a public suffix, which no CA certifies"
}

// badEntry says what is wrong with one entry.
type badEntry struct {
	where string // "hosts.txt:3", or empty
	entry string
	why   string
}

func (e *badEntry) Error() string {
	entry := e.entry
	if len(entry) > maxHostLength {
		entry = entry[:maxHostLength] + "..."
	}
	text := fmt.Sprintf("%q: %s", entry, text.OneLine(e.why, maxHostLength))
	if e.where != "" {
		return e.where + ": " + text
	}
	return text
}

func (e *badEntry) Unwrap() error { return ErrBadServerName }

// badEntries is the error of a list that has any. The zero value has none.
type badEntries struct {
	list []error // the first ones
	n    int     // of all
}

// maxBadEntries is how many of them an error names.
const maxBadEntries = 100

func (e *badEntries) add(err error) {
	if e.n++; e.n <= maxBadEntries {
		e.list = append(e.list, err)
	}
}

// err returns e, or nil if there are none.
func (e *badEntries) err() error {
	if e.n == 0 {
		return nil
	}
	return e
}

// Error is one line. It is as long as 100 bad entries need, at most.
func (e *badEntries) Error() string {
	var b strings.Builder
	b.WriteString("certmgr: invalid allowlist entry: ")
	if e.n > 1 {
		b.Reset()
		fmt.Fprintf(&b, "certmgr: %d invalid allowlist entries: ", e.n)
	}
	for i, err := range e.list {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	if more := e.n - len(e.list); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

func (e *badEntries) Unwrap() []error { return e.list }
