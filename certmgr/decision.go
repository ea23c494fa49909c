package certmgr

import (
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// trust is why a host is allowed, and so how much may be spent on it. Any
// client can cause work for untrusted hosts by pointing a name here, and a
// policy may allow more than its author intended. So untrusted hosts are paced,
// have separate limits wherever they could exhaust something (issuances, cache
// reads, memory), come after others and are evicted first; their failures are
// remembered only in memory. Hosts allowed byPolicy have limits too, which are
// wider: on issuances in flight, on hosts in memory and on visits. The list itself
// limits the number of listed hosts.
type trust uint8

const (
	notAllowed trust = iota
	untrusted        // a wildcard or AllowAnyHost allows it
	byPolicy         // HostPolicy allows it
	listed           // Hosts holds its exact name
)

// isStrangers reports whether a stranger may have made the host's name up,
// whoever allows it.
func (t trust) isStrangers() bool { return t == untrusted || t == byPolicy }

// grant is why a host is allowed: its trust, and when HostPolicy allowed it, if
// it did.
type grant struct {
	trust     trust
	policyYes time.Time
}

// rule names what allowed the host, for events.
func (g grant) rule(host string) string {
	switch {
	case !g.policyYes.IsZero() && g.trust == untrusted:
		return "AllowAnyHost"
	case g.trust == byPolicy:
		return "HostPolicy"
	case g.trust == untrusted:
		_, parent, _ := strings.Cut(host, ".")
		return "Hosts: *." + parent
	}
	return "Hosts: " + host
}

// unlisted reports whether something other than its exact name on the allowlist
// allows the host.
func (g grant) unlisted() bool { return g.trust != listed }

// decision is the result of allowlist and policy for a host. Callers look only
// at is to learn it.
type decision struct {
	is    audit.Decision
	grant grant // if is is audit.Allowed
	err   error // why it is not allowed
	own   bool  // err is HostPolicy's own
}

// shown is err for a client: HostPolicy's own error is returned unchanged.
func (d decision) shown() error {
	if d.own {
		return d.err
	}
	return brief(d.err)
}

// result returns the result of a handshake that is refused because of d.
func (d decision) result() result {
	switch {
	case !d.own:
		return resultOf(d.err)
	case d.is == audit.Undecided:
		return resPolicyFailed
	}
	return resNotAllowed
}

// allow allows a host. policyYes is when HostPolicy allowed it, or zero if the
// list does.
func allow(t trust, policyYes time.Time) decision {
	return decision{is: audit.Allowed, grant: grant{trust: t, policyYes: policyYes}}
}

// refuse refuses a host.
func refuse(why error) decision { return decision{is: audit.Refused, err: why} }

// undecided is the decision if the policy could not decide, or the caller did
// not wait for it.
func undecided(why error) decision { return decision{is: audit.Undecided, err: why} }
