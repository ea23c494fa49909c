package hosts

import "golang.org/x/net/publicsuffix"

// RegisteredDomain returns the unit of CAs' rate limits: the public suffix plus
// one label; of an IPv4 address itself, and of an IPv6 address its /64, as at
// Let's Encrypt. A host without such a domain is returned as it is.
func RegisteredDomain(host string) string {
	if addr, ok := addressOf(host); ok {
		if addr.Is6() {
			if net, err := addr.Prefix(64); err == nil {
				return net.String()
			}
		}
		return host
	}
	d, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return d
}

// isPublicSuffix uses only the list's ICANN section, as CAs do.
func isPublicSuffix(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(host)
	return icann && suffix == host
}
