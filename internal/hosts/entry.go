package hosts

import (
	"iter"
	"net/netip"
	"strings"
)

// ParseEntries normalises the entries of a list. The error names each invalid
// entry and the reason, up to 100 of them, and wraps an *EntryError for each.
func ParseEntries(names iter.Seq[string]) ([]string, error) {
	var entries []string
	var bad badEntries
	for name := range names {
		entry, err := ParseEntry(name)
		if err != nil {
			bad.add(err)
			continue
		}
		entries = append(entries, entry)
	}
	return entries, bad.err()
}

// ParseEntry normalises an entry and refuses what no public CA would certify.
// The error is an *EntryError.
func ParseEntry(name string) (string, error) {
	base, wildcard := strings.CutPrefix(name, "*.")
	host, err := Normalize(base)
	if err != nil {
		return "", &EntryError{Entry: name, Why: whyNoHost(base, wildcard, err)}
	}
	if isPublicSuffix(host) {
		return "", &EntryError{Entry: name, Why: whySuffix(wildcard)}
	}
	if wildcard {
		return "*." + host, nil
	}
	return host, nil
}

// whyNoHost says in words why Normalize refused a name.
func whyNoHost(name string, wildcard bool, err error) string {
	_, notAddr := netip.ParseAddr(strings.Trim(name, "[]"))
	noText := whyNoText(name)
	switch {
	case name == "":
		return "no name"
	case noText != "":
		return noText
	case notAddr == nil:
		return "an IP address, not a host name"
	case strings.ContainsAny(name, " \t"):
		return "not a host name: it contains a space"
	case strings.Contains(name, "*"):
		return `not a host name: a wildcard is "*." and a host name, and stands for one label`
	case strings.ContainsAny(name, ":/"):
		return "not a host name: leave out scheme, port and path"
	case isPublicSuffix(strings.ToLower(strings.TrimSuffix(name, "."))):
		return whySuffix(wildcard)
	}
	if bad, ok := err.(*NameError); ok {
		return bad.reason()
	}
	return err.Error()
}

func whySuffix(wildcard bool) string {
	if wildcard {
		return "a wildcard directly below a public suffix, which no CA certifies"
	}
	return "a public suffix, which no CA certifies"
}
