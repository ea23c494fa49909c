package hosts

import (
	"iter"
	"net/netip"
	"strings"
)

// ParseEntries normalises the entries of a list, each a name, a wildcard or the
// names of a group. The error names each invalid
// entry and the reason, up to 100 of them, and wraps an *EntryError for each.
func ParseEntries(names iter.Seq[string]) ([]string, error) {
	var entries []string
	var bad badEntries
	var groups membership
	for name := range names {
		entry, err := ParseEntry(name)
		if err == nil {
			err = groups.check(entry)
		}
		if err != nil {
			bad.add(err)
			continue
		}
		entries = append(entries, entry)
	}
	return entries, bad.err()
}

// ParseEntry normalises an entry and refuses what no public CA would certify. It
// takes addresses that only a private CA could certify; see Private. An entry with
// several names, separated by spaces, is a group; one space separates
// them in the result. The error is an *EntryError.
func ParseEntry(name string) (string, error) {
	if names := SplitEntry(name); len(names) > 1 {
		return parseGroup(names)
	}
	if addr, ok := ParseAddress(name); ok {
		return parseAddressEntry(name, addr)
	}
	base, wildcard := strings.CutPrefix(name, "*.")
	host, err := Normalize(base)
	if err != nil {
		return "", &EntryError{Entry: name, Why: whyNoHost(base, wildcard, err)}
	}
	if isPublicSuffix(host) {
		return "", &EntryError{Entry: name, Why: whySuffix(wildcard)}
	}
	if isNumber(host[strings.LastIndexByte(host, '.')+1:]) {
		return "", &EntryError{Entry: name, Why: whyNumber(wildcard)}
	}
	if wildcard {
		return "*." + host, nil
	}
	return host, nil
}

// parseAddressEntry is ParseEntry for an address.
func parseAddressEntry(name string, addr netip.Addr) (string, error) {
	if why := uncertifiableAddress(addr); why != "" {
		return "", &EntryError{Entry: name, Why: why + ", which no CA certifies"}
	}
	return addr.String(), nil
}

// whyNoHost says in words why Normalize refused a name.
func whyNoHost(name string, wildcard bool, err error) string {
	addr, notAddr := netip.ParseAddr(strings.Trim(name, "[]"))
	_, notPort := netip.ParseAddrPort(name)
	_, notRange := netip.ParsePrefix(name)
	noText := whyNoText(name)
	switch {
	case name == "":
		return "no name"
	case noText != "":
		return noText
	case notAddr == nil && wildcard:
		return whyNumber(wildcard)
	case notAddr == nil && addr.Zone() != "":
		return "an IP address with a zone, which no CA certifies"
	case notAddr == nil:
		return "an IP address in odd brackets"
	case notPort == nil:
		return "an IP address with a port: leave out the port"
	case notRange == nil:
		return "a range of IP addresses: list each address"
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

func whyNumber(wildcard bool) string {
	if wildcard {
		return "a wildcard of IP addresses: list each address"
	}
	return "its last label is a number, but it is not an IP address as they are usually written"
}

func whySuffix(wildcard bool) string {
	if wildcard {
		return "a wildcard directly below a public suffix, which no CA certifies"
	}
	return "a public suffix, which no CA certifies"
}
