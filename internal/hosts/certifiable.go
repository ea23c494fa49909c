package hosts

import (
	"slices"
	"strings"
)

// Uncertifiable says in words why no CA certifies a host, however it is
// configured, or returns "". host is normalised.
func Uncertifiable(host string) string {
	if addr, ok := addressOf(host); ok {
		return uncertifiableAddress(addr)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case isNumber(last):
		return "its last label is a number, as in an IP address"
	case isPublicSuffix(host):
		return "a public suffix"
	}
	for _, suffix := range []string{
		"invalid",                  // RFC 6761, section 6.4
		"localhost",                // RFC 6761, section 6.3: the CA's own machine
		"onion",                    // RFC 7686: not in the DNS, which ACME's challenges need
		"alt",                      // RFC 9476, likewise
		"in-addr.arpa", "ip6.arpa", // reverse names of addresses
	} {
		if isBelow(host, suffix) {
			return "names below ." + suffix + " are not hosts in the public DNS"
		}
	}
	return ""
}

// Private says in words why only a private CA could certify a host, or returns
// "": its name, or the address that it is, is reserved for private use. host is
// normalised.
func Private(host string) string {
	if addr, ok := addressOf(host); ok {
		return privateAddress(addr)
	}
	for _, suffix := range []string{
		"local",                         // RFC 6762
		"internal",                      // reserved by ICANN in 2024
		"home.arpa",                     // RFC 8375
		"test",                          // RFC 6761, section 6.2
		"example",                       // RFC 6761, section 6.5
		"service.arpa", "resolver.arpa", // RFC 9665, RFC 9462
		// In use and not delegated: RFC 6762, appendix G.
		"intranet", "private", "corp", "home", "lan",
		"localdomain", "domain",
	} {
		if isBelow(host, suffix) {
			return "names below ." + suffix + " are for private use"
		}
	}
	return ""
}

// isBelow reports whether host is suffix or a name below it.
func isBelow(host, suffix string) bool {
	rest, ok := strings.CutSuffix(host, suffix)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}

// isNumber reports whether a label is a number in one of the forms of an IPv4
// address: decimal, octal, or hexadecimal with 0x. Top-level domains are not.
func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (!hex || c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// minRecursive is the number of labels from which a name can be recursive.
const minRecursive = 4

// IsRecursive reports whether a host has at least four labels and two equal
// ones in a row, as in www.www.www.example.com. Scanners ask for such names
// below wildcards, and CAs reject orders for them.
func IsRecursive(host string) bool {
	labels := strings.Split(host, ".")
	return len(labels) >= minRecursive && len(slices.Compact(labels)) < strings.Count(host, ".")+1
}
