package acmetest

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RateLimits are rate limits like those of Let's Encrypt, each a token bucket
// on the CA's clock. A zero Limit is off. They must not change once the server
// is started.
//
// A request over a limit is refused with "rateLimited" and status 429 (503 for
// Requests). The text says which limit, for whom, and until when, and there is
// a Retry-After. If several limits apply, the reply names the one with the
// longest wait, and no token is spent.
//
// Renewals have two exemptions. An order that replaces a certificate (RFC 9773,
// see SetRenewalWindow) while its renewal window is open is exempt from all
// limits on orders except ConsecutiveFailures. An order for exactly the names
// of a certificate issued in the last 120 days, to any account, is exempt from
// NewOrders and CertificatesPerDomain.
//
// As in Boulder, an order reserves no token of limits that are counted at
// issuance: orders open at the same time can lead to more certificates than a
// limit allows. Then no token is left to spend, and nothing is refused.
type RateLimits struct {
	// NewAccounts limits new accounts of one IP address. A token is spent when
	// an account is created; finding one is free.
	NewAccounts Limit

	// NewOrders limits new orders of one account. A token is spent when an
	// order is created.
	NewOrders Limit

	// CertificatesPerDomain limits certificates, of all accounts, with names
	// below one registered domain (see RegisteredDomain). An IPv4 address
	// counts as a domain, an IPv6 address as its /64. Orders are refused while
	// there is no token. A token is spent when a certificate is issued, unless
	// it renews one with the same names.
	CertificatesPerDomain Limit

	// CertificatesPerSet limits certificates, of all accounts, with exactly the
	// same names. Orders are refused while there is no token. A token is spent
	// when a certificate is issued.
	CertificatesPerSet Limit

	// FailedValidations limits failed validations of one name by one account. A
	// token is spent when a validation fails. Orders with this name are refused
	// while there is no token.
	FailedValidations Limit

	// ConsecutiveFailures limits failed validations of one name by one account
	// in a row; a success refills the bucket. A failure without a token pauses
	// the name for the account: its orders with this name are refused, without
	// Retry-After, until Unpause.
	ConsecutiveFailures Limit

	// Requests limits requests of one IP address to an endpoint. Endpoints that
	// are not listed share the limit of Any. These limits act before the CA
	// handles a request: the nonce is not used up, and the reply has no new
	// one. In memory all clients have one address, and in a testing/synctest
	// bubble requests take no time, so they arrive faster than real clients
	// could send them; nil turns these limits off.
	Requests map[Endpoint]Limit

	// RegisteredDomain returns the domain that CertificatesPerDomain counts a
	// name under, such as "example.co.uk" for "www.example.co.uk". On error the
	// name counts for itself. Nil means the last two labels. For the Public
	// Suffix List, use publicsuffix.EffectiveTLDPlusOne of golang.org/x/net. It
	// may run in several goroutines.
	RegisteredDomain func(host string) (string, error)
}

// LetsEncryptRateLimits returns the limits of Let's Encrypt as they were in
// November 2026 (https://letsencrypt.org/docs/rate-limits), in a new value that
// may be changed before the server starts. The limit on new accounts per IPv6
// range is not included.
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

// check panics if the limits are for requests to an unknown endpoint.
func (l *RateLimits) check() {
	if l == nil {
		return
	}
	for e := range l.Requests {
		mustBeEndpoint(e)
	}
}

// registeredDomains returns the domains that CertificatesPerDomain counts an
// order's names under, without duplicates. It calls a callback, so s.mu is not
// held.
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
