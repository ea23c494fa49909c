package certmgr

import (
	"github.com/nostall/nostall/internal/hosts"
)

// uncertifiable returns an error if no order may be placed for a host: a
// stranger chose the name, and no CA would certify it. Names that an operator
// wrote out, in Hosts or HostWhitelist, are the operator's wish: a private CA
// may certify them.
//
// It is asked last before an order, and not when a host is served or renewed: a
// certificate that exists proves that there is a CA for it.
func (gt *gate) uncertifiable(host string, g grant) *refusal {
	if g.trust == listed || g.trust == byPolicy && isWhitelist(gt.settings.hostPolicy) {
		return nil
	}
	why, prefix := hosts.Uncertifiable(host), "no public CA certifies it: "
	switch {
	case why != "":
	case hosts.IsAddress(host):
		// A policy that allows any host may not mean the addresses of this
		// machine, which strangers need no name to ask for.
		if why = hosts.Private(host); why == "" && g.trust == untrusted {
			why, prefix = "AllowAnyHost is for host names", ""
		}
	case hosts.IsRecursive(host):
		why = "a label is repeated, as in names that scanners make up"
	case !g.policyYes.IsZero() && g.trust == untrusted: // AllowAnyHost
		// A policy that decides, or a wildcard, may mean them.
		why = hosts.Private(host)
	}
	if why == "" {
		return nil
	}
	return &refusal{kind: ErrBadServerName, host: host, text: prefix + why +
		"; nothing is ordered unless it is on Manager.Hosts by its exact name"}
}
