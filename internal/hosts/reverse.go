package hosts

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The domains of reverse names (RFC 1035, section 3.5, and RFC 3596, section
// 2.5).
const (
	reverse4 = ".in-addr.arpa"
	reverse6 = ".ip6.arpa"
)

// Reverse returns the name of an address in the DNS, which stands for it as the
// server name of a tls-alpn-01 handshake (RFC 8738, section 6). It returns any
// other name in normal form as it is.
func Reverse(name string) string {
	addr, ok := ParseAddress(name)
	if !ok {
		return name
	}
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, octet := range slices.Backward(addr.AsSlice()) {
		if addr.Is4() {
			b.WriteString(strconv.Itoa(int(octet)) + ".")
		} else {
			b.Write([]byte{digits[octet&15], '.', digits[octet>>4], '.'})
		}
	}
	if addr.Is4() {
		return b.String() + reverse4[1:]
	}
	return b.String() + reverse6[1:]
}

// OfReverse returns the address with a reverse name, in normal form, or "". The
// name is in normal form and complete: a part of an address stands for none.
func OfReverse(name string) string {
	var addr netip.Addr
	if labels, ok := strings.CutSuffix(name, reverse4); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		addr, _ = netip.ParseAddr(strings.Join(parts, "."))
	} else if labels, ok := strings.CutSuffix(name, reverse6); ok && len(labels) == nibblesLen {
		addr = ofNibbles(labels)
	}
	if host, ok := Canonical(addr); ok && Reverse(host) == name {
		return host
	}
	return ""
}

// nibblesLen is the length of 32 hexadecimal digits with a dot between each.
const nibblesLen = 32 + 31

// ofNibbles returns the IPv6 address with these digits, the last one first, or
// the zero Addr.
func ofNibbles(labels string) netip.Addr {
	var b strings.Builder
	for i := 0; i < 32; i++ {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteByte(labels[nibblesLen-1-2*i])
	}
	addr, _ := netip.ParseAddr(b.String())
	return addr
}
