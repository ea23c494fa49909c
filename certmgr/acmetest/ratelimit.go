package acmetest

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RateLimits are limits such as those of Let's Encrypt, each a token bucket on the CA's clock. A zero Limit is off. They
// must not change once the server is started.
//
// A request that is over a limit is refused with "rateLimited" and status 429 (503 for Requests), a text that says which
// limit it is, for whom, and until when, and Retry-After. If several refuse it, the reply is about the one that takes
// longest, and no token is spent.
//
// Renewals have it easier, in two ways. An order that replaces a certificate (RFC 9773, see SetRenewalWindow) while its
// renewal window is open is exempt from all limits on orders but ConsecutiveFailures. An order for exactly the names of
// a certificate that was issued in the last 120 days, to whom ever, is exempt from NewOrders and CertificatesPerDomain.
//
// As in Boulder, what is counted at issuance is not reserved by an order: orders that are open at the same time can
// become more certificates than a limit allows. Then there is no token to spend, and nothing is refused.
type RateLimits struct {
	// NewAccounts is for the new accounts of one IP address. A token is spent when an account is made; finding one is
	// free.
	NewAccounts Limit

	// NewOrders is for the new orders of one account. A token is spent when an order is made.
	NewOrders Limit

	// CertificatesPerDomain is for the certificates of all accounts with names below one registered domain, see
	// RegisteredDomain. An IPv4 address counts as a domain, of an IPv6 address its /64. Orders are refused while there is no
	// token; it is spent when a certificate is issued, unless that was a renewal with the same names.
	CertificatesPerDomain Limit

	// CertificatesPerSet is for the certificates of all accounts with exactly the same names. Orders are refused while
	// there is no token; it is spent when a certificate is issued.
	CertificatesPerSet Limit

	// FailedValidations is for the failed validations of one name by one account. A token is spent when a validation
	// fails; while there is none, orders with this name are refused.
	FailedValidations Limit

	// ConsecutiveFailures is for the failed validations of one name by one account without a success in between, which
	// fills the bucket. A failure that finds no token pauses the name for the account: its orders with this name are
	// refused, without Retry-After, until Unpause.
	ConsecutiveFailures Limit

	// Requests are for the requests of one IP address to an endpoint; those to endpoints that are not listed count
	// together, for Any. These limits act before the CA looks at a request: the nonce is not used up, and the reply has
	// no new one. In memory all clients have one address, and in a testing/synctest bubble no time passes between requests,
	// so that they come in faster than real clients could send them; nil turns these limits off.
	Requests map[Endpoint]Limit

	// RegisteredDomain returns the domain that a name counts for in CertificatesPerDomain, such as "example.co.uk" for
	// "www.example.co.uk"; a name for which it fails counts for itself. Nil means the last two labels. With the list of
	// public suffixes it is publicsuffix.EffectiveTLDPlusOne of golang.org/x/net. It may run in several goroutines.
	RegisteredDomain func(host string) (string, error)
}

// LetsEncryptRateLimits returns the limits of Let's Encrypt as they were in November 2026
// (https://letsencrypt.org/docs/rate-limits), in a new value that may be changed before the server starts. Those of IPv6
// ranges on new accounts are not among them.
func LetsEncryptRateLimits() *RateLimits {
	const day = 24 * time.Hour
	perSecond := func(n, burst int) Limit { return Limit{burst, time.Second / time.Duration(n)} }
	return &RateLimits{
		NewAccounts:           Limit{10, 18 * time.Minute},
		NewOrders:             Limit{300, 36 * time.Second},
		CertificatesPerDomain: Limit{50, 7 * day / 50}, // 202 minutes
		CertificatesPerSet:    Limit{5, 7 * day / 5},   // 34 hours
		FailedValidations:     Limit{5, 12 * time.Minute},
		ConsecutiveFailures:   Limit{1152, day},
		Requests: map[Endpoint]Limit{
			NewNonce:    perSecond(20, 10),
			NewAccount:  perSecond(5, 15),
			NewOrder:    perSecond(300, 200),
			RevokeCert:  perSecond(10, 100),
			RenewalInfo: perSecond(1000, 100),
			Directory:   perSecond(40, 40),
			Any:         perSecond(250, 125),
		},
	}
}

// registeredDomains returns what an order's names count for in CertificatesPerDomain, each once. It calls back: s.mu is
// not held.
func (s *Server) registeredDomains(hosts []string) []string {
	if s.RateLimits == nil {
		return nil
	}
	var domains []string
	for _, host := range hosts {
		domains = append(domains, s.RateLimits.domainOf(strings.TrimPrefix(host, "*.")))
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

func (l *RateLimits) domainOf(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Is4() {
			return host
		}
		prefix, _ := addr.Prefix(64)
		return prefix.String()
	}
	if l.RegisteredDomain == nil {
		labels := strings.Split(host, ".")
		return strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	domain, err := l.RegisteredDomain(host)
	if err != nil || domain == "" {
		return host
	}
	return domain
}
