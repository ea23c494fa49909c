package hosts

import (
	"net/netip"
	"strings"
)

// IsAddress reports whether a name in normal form is an IP address.
func IsAddress(name string) bool {
	_, ok := addressOf(name)
	return ok
}

// addressOf returns the address that a name in normal form is.
func addressOf(name string) (addr netip.Addr, ok bool) {
	if !mayBeAddress(name) {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(name)
	return addr, err == nil
}

// mayBeAddress is false for nearly all host names, which it spares the parser's
// error.
func mayBeAddress(name string) bool {
	return name != "" && (name[len(name)-1] <= '9' || strings.IndexByte(name, ':') >= 0)
}

// ParseAddress returns the address that a name stands for, as it is meant in
// lists, URLs and Host headers: an IPv6 address may be in brackets, and an IPv4
// address may be mapped to IPv6. It has no zone, which means something on one
// machine only.
func ParseAddress(name string) (addr netip.Addr, ok bool) {
	inner, bracket := strings.CutPrefix(name, "[")
	if bracket {
		if inner, bracket = strings.CutSuffix(inner, "]"); !bracket || strings.IndexByte(inner, ':') < 0 {
			return netip.Addr{}, false
		}
	}
	if !mayBeAddress(inner) {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// Canonical returns the normal form of an address, which is that of RFC 5952,
// or false if it is none that a certificate can have: the zero Addr, one with a
// zone, or an unspecified one such as 0.0.0.0.
func Canonical(addr netip.Addr) (name string, ok bool) {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" || addr.IsUnspecified() {
		return "", false
	}
	return addr.String(), true
}

// NormalizeAny is Normalize, and returns the normal form of an IP address too:
// without brackets, as RFC 5952 has it.
func NormalizeAny(name string) (string, error) {
	if addr, ok := ParseAddress(name); ok {
		if host, ok := Canonical(addr); ok {
			return host, nil
		}
	}
	return Normalize(name)
}

// Key returns a name in normal form as what the Cache and files call it: with
// an underscore for each colon of an IPv6 address, since not every Cache and no
// file system of Windows takes a colon. No host name is equal to it: they have
// no underscores, and do not end in a number.
func Key(name string) string {
	if strings.IndexByte(name, ':') < 0 {
		return name
	}
	return strings.ReplaceAll(name, ":", "_")
}

// OfKey returns the name that Key was called with, if a key is that of an
// address with colons. It returns any other key as it is.
func OfKey(key string) string {
	if strings.IndexByte(key, '_') < 0 || strings.IndexByte(key, ':') >= 0 {
		return key
	}
	name := strings.ReplaceAll(key, "_", ":")
	if addr, err := netip.ParseAddr(name); err != nil || addr.String() != name {
		return key
	}
	return name
}
