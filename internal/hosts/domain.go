package hosts

import "golang.org/x/net/publicsuffix"

// RegisteredDomain returns what CAs count by: the public suffix and one label. A host
// that has no such domain counts as one.
func RegisteredDomain(host string) string {
	d, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return d
}

// isPublicSuffix goes by the ICANN section alone, as CAs do.
func isPublicSuffix(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(host)
	return icann && suffix == host
}
