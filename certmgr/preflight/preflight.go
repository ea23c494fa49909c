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
	// fails at audit.StagePreflight with ErrUnreachable, and Manager.Backoff
	// says when the next one is due. If the check is inconclusive (DNS fails,
	// for example), issuance proceeds. It requires that the server can reach
	// its own public addresses, which some networks prevent.
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
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// ErrUnreachable means that the host's name does not lead to this server. It is
// the same value as certmgr.ErrUnreachable.
var ErrUnreachable = errors.New("certmgr: name does not lead here")
