// Package preflight has the vocabulary of Manager.Preflight, which checks
// whether a host's name leads to this server before placing an order: its modes
// and what it finds.
package preflight

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// A Mode says what happens to a host whose name does not lead to this server.
type Mode uint8

const (
	// Off makes no check and no connection. It is the zero value.
	Off Mode = iota

	// Report checks before each order and proceeds whatever the result, which
	// the event audit.HostUnreachable reports. After a failed challenge it
	// checks again and joins the result to the *certmgr.IssuanceError.
	Report

	// Enforce places no order for a name that does not lead here: the issuance
	// fails at audit.StagePreflight with ErrUnreachable. If the check is
	// inconclusive (DNS fails, for example), issuance proceeds. It requires that
	// the server can reach its own public addresses, which some networks prevent.
	//
	// A name that Manager.Hosts has exactly then waits for DNS
	// (certmgr.StateWaitingForDNS), which is no failure. It is probed after 15 s,
	// then after 1.5 times the last wait, up to 5 min, and after an hour hourly. A
	// visitor is refused at once and brings the next probe forward, to 15 s after
	// the last one at the soonest. There are 20 probes a second in all. The name is
	// ordered at the first probe that finds it to lead here. After 7 days it is among
	// Manager.StaleHosts. For other names Manager.Backoff says when the next
	// attempt is due.
	Enforce
)

// String returns "off", "report" or "enforce".
func (m Mode) String() string {
	switch m {
	case Off:
		return "off"
	case Enforce:
		return "enforce"
	}
	return "report"
}

// A Resolver looks up the addresses of a name; *net.Resolver implements it.
// network is "ip". For a name that does not exist it returns a *net.DNSError
// with IsNotFound, or neither an address nor an error. Any other error means
// that the answer is unknown. It must be safe for concurrent use.
//
// With Enforce, a name is ordered as soon as the Resolver's answers say that it
// leads here, so take one that does not keep old answers for long. Most resolvers
// remember that a name does not exist for as long as the zone's SOA record says
// (RFC 2308, section 5), often an hour or more. Good choices are a resolver on this
// machine that is set not to remember that for longer than 15 s (unbound:
// cache-max-negative-ttl, BIND: max-ncache-ttl, systemd-resolved:
// Cache=no-negative, dnsmasq: no-negcache), or a Resolver that asks the name
// servers of the zone themselves. A *net.Resolver remembers nothing, but it asks
// a resolver that may.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// ErrUnreachable means that the host's name does not lead to this server. It is
// the same value as certmgr.ErrUnreachable.
var ErrUnreachable = errors.New("certmgr: name does not lead here")
