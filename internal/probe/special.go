package probe

import (
	"net/netip"
	"slices"
)

// unreachable holds the IPv4 ranges where no CA can reach a server: those of
// IANA's special-purpose registry (RFC 6890) that are not globally reachable,
// and the virtual address of a cloud's services. A name's owner chooses its
// addresses, and must not make this machine connect there.
//
// Private networks (RFC 1918) are not among them: a private CA reaches them.
// Nor are the ranges for documentation, where nobody is.
var unreachable = parsePrefixes(
	"0.0.0.0/8",      // this network (RFC 791)
	"100.64.0.0/10",  // shared by a carrier's customers (RFC 6598); Alibaba Cloud's metadata
	"127.0.0.0/8",    // loopback (RFC 1122)
	"168.63.129.16",  // Azure's services for its machines
	"169.254.0.0/16", // link-local (RFC 3927); most clouds' metadata
	"192.0.0.0/24",   // IETF protocol assignments (RFC 6890); Oracle Cloud's metadata
	"192.88.99.0/24", // 6to4 relays (RFC 7526)
	"198.18.0.0/15",  // benchmarks (RFC 2544)
	"224.0.0.0/4",    // multicast (RFC 5771)
	"240.0.0.0/4",    // reserved (RFC 1112), and broadcast (RFC 919)
)

// unreachable6 is the same for IPv6. What is in neither global unicast nor
// unique local addresses, such as link-local ones and those that embed an IPv4
// address (RFC 4291, section 2.5.5), is left out by isUnreachable.
var unreachable6 = parsePrefixes(
	"2001::/23", // IETF protocol assignments (RFC 2928), with Teredo (RFC 4380), which embeds an IPv4 address

	// Metadata services at unique local addresses.
	"fd00:42::/32",  // Scaleway
	"fd00:c1::/32",  // Oracle Cloud
	"fd00:ec2::/32", // AWS
	"fd20:ce::/32",  // Google Cloud
)

// Prefixes of IPv6.
var (
	globalUnicast = netip.MustParsePrefix("2000::/3")     // RFC 4291, section 2.4
	uniqueLocal   = netip.MustParsePrefix("fc00::/7")     // RFC 4193
	nat64         = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052; a resolver's DNS64 makes them of IPv4 addresses
	sixToFour     = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// isUnreachable reports whether no CA can reach a server at addr. An address
// that embeds an IPv4 address is as that one, since a gateway leads there.
func isUnreachable(addr netip.Addr) bool {
	addr = addr.Unmap()
	if addr.Zone() != "" {
		return true
	}
	if addr.Is4() {
		return contains(unreachable, addr)
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return isUnreachable(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(addr):
		return isUnreachable(netip.AddrFrom4([4]byte(b[2:])))
	}
	return !globalUnicast.Contains(addr) && !uniqueLocal.Contains(addr) || contains(unreachable6, addr)
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parsePrefixes parses prefixes and single addresses.
func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			prefixes[i] = netip.PrefixFrom(addr, addr.BitLen())
		} else {
			prefixes[i] = netip.MustParsePrefix(text)
		}
	}
	return prefixes
}
