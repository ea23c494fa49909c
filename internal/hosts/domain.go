package hosts

import "golang.org/x/net/publicsuffix"

// RegisteredDomain returns the unit of CAs' rate limits: the public suffix plus
// one label. A host without such a domain is returned as it is.
func RegisteredDomain(host string) string {
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
