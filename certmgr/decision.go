package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// decision is what allowlist and policy say of a host. Callers look at is, and at
// nothing else to learn it.
type decision struct {
	is    audit.Decision
	grant grant // of one that is audit.Allowed
	err   error // why it is not
}

// allow decides for a host. policyYes is when HostPolicy allowed it; zero if it is
// the list that does.
func allow(t trust, policyYes time.Time) decision {
	return decision{is: audit.Allowed, grant: grant{trust: t, policyYes: policyYes}}
}

// refuse decides against a host.
func refuse(why error) decision { return decision{is: audit.Refused, err: why} }

// undecided is for a policy that could not decide, or was not waited for.
func undecided(why error) decision { return decision{is: audit.Undecided, err: why} }
