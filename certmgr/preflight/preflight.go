// Package preflight names what Manager.Preflight can be set to and what it finds:
// whether a host's name leads to this server, before an order is spent on it.
package preflight

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// A Mode says what becomes of a host whose name does not lead to this server.
type Mode uint8

const (
	// Off checks nothing and makes no connection. It is the zero value.
	Off Mode = iota

	// Report checks before each order and goes on whatever it finds, which is the
	// event audit.HostUnreachable. After the CA has failed a challenge it checks
	// again, and joins the finding to the *certmgr.IssuanceError.
	Report

	// Enforce makes no order for a name that does not lead here: the issuance fails
	// at audit.StagePreflight with ErrUnreachable, and Manager.Backoff says when the
	// next one is due. If the check is inconclusive (the name cannot be looked up,
	// say), issuance proceeds. It is for servers that reach themselves by their
	// public addresses: some networks do not let them.
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

// A Resolver looks up the addresses of a name. *net.Resolver is one. network is
// "ip". A name that does not exist is a *net.DNSError with IsNotFound, or no address
// and no error; any other error means that the answer is unknown. It must be safe
// for concurrent use.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// ErrUnreachable: the host's name does not lead to this server. It is the same value
// as certmgr.ErrUnreachable.
var ErrUnreachable = errors.New("certmgr: name does not lead here")
