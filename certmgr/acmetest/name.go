package acmetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// normalName returns a name as the CA writes it everywhere: in lower case and
// without a trailing dot, an internationalized name in A-labels, an IP address
// as in RFC 5952. The name may begin with "*.", or be "*" alone. If that is not
// possible, the error says what to write instead.
func normalName(name string) (string, error) {
	switch name {
	case "":
		return "", errors.New("it is empty")
	case "*":
		return name, nil
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ',' }) {
		return "", errors.New("it has a space or a comma: write a single name, such as \"www.example.com\"")
	}
	if strings.ContainsAny(name, "/?#@") {
		host := name[strings.Index(name, "//")+1:]
		host, _, _ = strings.Cut(strings.TrimPrefix(host, "/"), "/")
		return "", fmt.Errorf("it is a URL or has a path: write the host name alone%s", instead(name, withoutPort(host)))
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil {
		if addr.Zone() != "" {
			return "", errors.New("it has a zone, as no address in a certificate has")
		}
		return addr.Unmap().String(), nil
	}
	if strings.Contains(name, ":") {
		return "", fmt.Errorf("it has a port, or is no IP address: write the name alone%s", instead(name, withoutPort(name)))
	}
	ascii, err := asciiName(name)
	if err != nil {
		return "", err
	}
	return ascii, checkLabels(strings.TrimPrefix(ascii, "*."))
}

// checkLabels checks the labels of a DNS name in ASCII. It allows what cannot
// be issued but may well be ordered, such as a label that is too long.
func checkLabels(name string) error {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return fmt.Errorf("a name has no label %q; \"*.\" stands for the first label, and \"*\" alone for every name", label)
		}
	}
	if strings.Trim(name, "0123456789.") == "" {
		return errors.New("it consists of numbers, but is no IPv4 address")
	}
	return nil
}

// asciiName returns a name in lower case, in ASCII and without a trailing dot.
func asciiName(name string) (string, error) {
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		wildcard := ""
		if base, ok := strings.CutPrefix(name, "*."); ok {
			wildcard, name = "*.", base
		}
		// Unlike idna.Lookup, it lets "_acme-challenge" pass.
		profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))
		ascii, err := profile.ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("it has no form in A-labels (%v): write that form", err)
		}
		name = wildcard + ascii
	}
	return strings.ToLower(strings.TrimSuffix(name, ".")), nil
}

// withoutPort returns the host in what may be a host and port.
func withoutPort(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// instead suggests a better name, if it is one.
func instead(name, better string) string {
	if better == name {
		return ""
	}
	normal, err := normalName(better)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(": %q", normal)
}

// nameSent returns a name that a client sent, in normal form if it has one.
func nameSent(name string) string {
	if normal, err := normalName(name); err == nil {
		return normal
	}
	return strings.ToLower(name)
}

// mustBePattern returns the normal form of a pattern that a test wrote, as in
// Resolve. It panics if there is none: such a pattern matches nothing, and then
// the test tests nothing.
func mustBePattern(pattern string) string {
	normal, err := normalName(pattern)
	if err != nil {
		panic(fmt.Sprintf("acmetest: %q cannot match any name: %v", pattern, err))
	}
	return normal
}

// mustBeName returns the normal form of a name that a test wrote, which may be
// that of a wildcard certificate. It panics if there is none.
func mustBeName(name string) string {
	normal := mustBePattern(name)
	if normal == "*" {
		panic(`acmetest: "*" is a pattern for all names, but one name is needed here`)
	}
	return normal
}

// mustBeRecord returns the normal form of the name of a DNS record.
func mustBeRecord(name string) string {
	normal, err := normalName(name)
	if err == nil && strings.Contains(normal, "*") || isIP(normal) {
		err = errors.New("the CA looks up records of names only, and for *.example.com those of \"_acme-challenge.example.com\"")
	}
	if err != nil {
		panic(fmt.Sprintf("acmetest: %q is no name of a record: %v", name, err))
	}
	return normal
}
