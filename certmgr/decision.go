package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// decision is the result of allowlist and policy for a host. Callers look only
// at is to learn it.
type decision struct {
	is    audit.Decision
	grant grant // if is is audit.Allowed
	err   error // why it is not allowed
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
