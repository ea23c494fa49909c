package hosts

import (
	"net/netip"
	"slices"
)

// uncertifiableAddress says in words why no CA certifies an address, or returns
// "".
func uncertifiableAddress(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified():
		return "it is not the address of a machine"
	case addr.IsMulticast(), addr == broadcast:
		return "a multicast address"
	case addr.IsLinkLocalUnicast():
		return "a link-local address"
	}
	return ""
}

var broadcast = netip.MustParseAddr("255.255.255.255")

// special are the ranges of IANA's registries of special-purpose addresses (RFC
// 6890) that are not globally reachable. Public CAs certify no address in them
// (Baseline Requirements, 4.2.2).
var special = []specialRange{
	{netip.MustParsePrefix("0.0.0.0/8"), "reserved"},               // RFC 791
	{netip.MustParsePrefix("100.64.0.0/10"), "of a carrier's NAT"}, // RFC 6598
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved"},            // RFC 6890
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},   // RFC 5737
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},     // RFC 2544
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},            // RFC 1112
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"}, // RFC 3849
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},     // RFC 9637
}

// globalUnicast are the IPv6 addresses that are assigned to machines in the
// Internet (RFC 4291, section 2.4).
var globalUnicast = netip.MustParsePrefix("2000::/3")

type specialRange struct {
	prefix netip.Prefix
	use    string
}

// privateAddress says in words why only a private CA could certify an address,
// or returns "".
func privateAddress(addr netip.Addr) string {
	switch i := slices.IndexFunc(special, func(r specialRange) bool { return r.prefix.Contains(addr) }); {
	case addr.IsLoopback():
		return "a loopback address"
	case addr.IsPrivate():
		return "an address of a private network"
	case i >= 0:
		return "an address that is " + special[i].use
	case addr.Is6() && !globalUnicast.Contains(addr):
		return "an address that is reserved"
	}
	return ""
}
