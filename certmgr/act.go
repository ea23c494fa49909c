package certmgr

import (
	"context"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// ActionKind names what Manager.Act can do.
type ActionKind string

// The kinds of actions.
const (
	// ActionRetry begins what Obtain does, for a host without a valid
	// certificate: it is looked for in the Cache, and otherwise issued, without
	// waiting for the end of a backoff.
	ActionRetry ActionKind = "retry"
	// ActionRenew begins what Renew does.
	ActionRenew ActionKind = "renew"
	// ActionRevoke begins what Revoke does, for a host that is allowed.
	ActionRevoke ActionKind = "revoke"
	// ActionReload reads the file of Manager.Hosts now, as Allowlist.Reload does.
	ActionReload ActionKind = "reload"
)

// An Action is what somebody wants a Manager to do.
type Action struct {
	Kind ActionKind
	Host string // empty for ActionReload

	// Actor is who wants it: a name that the caller has authenticated. It must
	// not be empty. Events show at most 128 bytes of it, escaped.
	Actor string
	// RemoteAddr is where the request came from, for the audit trail, or empty.
	RemoteAddr string
	// Reason is that of a revocation; the zero value is
	// acme.CRLReasonUnspecified.
	Reason acme.CRLReasonCode
}

// ActionState says what became of an Action.
type ActionState string

// The states of an Action.
const (
	ActionBegun    ActionState = "begun"     // it runs in the background
	ActionInFlight ActionState = "in_flight" // it ran already; nothing more was begun
	ActionDone     ActionState = "done"      // it has ended well
	ActionUnneeded ActionState = "unneeded"  // ActionRetry: the host has a valid certificate
)

// ActionResult is the answer to an Action.
type ActionResult struct {
	State   ActionState // empty if there is an error
	Since   time.Time   // ActionInFlight: since when
	Stage   audit.Stage // ActionInFlight: the stage of an issuance, if it is one
	Entries int         // ActionDone, of ActionReload: entries of the list
	RetryAt time.Time   // with ErrBackoff: when the action is possible
}

// Act begins what an operator asks for and does not wait for its end: it is for
// buttons and remote commands. The work is the Manager's. It goes on when ctx
// ends, and ends with Close. Its outcome is in Snapshot and in the audit trail:
// Act itself is audit.OperatorAction or audit.OperatorActionFailed, and the
// events of what it causes have the same Actor. Only for reading the file of the
// allowlist, which rarely takes long, does Act wait, up to 2 seconds, and for
// HostPolicy, up to 5.
//
// A host must be allowed and known: in Hosts by its exact name, or with a
// certificate in memory, an issuance in flight or a failure. So nobody can have
// certificates ordered for names of their choice below a wildcard. What is in
// flight for a host is not begun again. Between two issuances that Act begins
// for a host is a minute, and a time before which the CA wants no request (Retry-After)
// is waited for; both are errors that wrap ErrBackoff.
//
// Other errors wrap ErrHostNotAllowed (for a host that is not known, too) or are
// what HostPolicy returned, or wrap ErrBadServerName, ErrPolicy, ErrBusy (256
// actions are running) or ErrClosed; or they are those of Allowlist.Reload, or
// about the Action itself. They are for operators: do not show them to
// strangers.
//
// Act trusts its caller: authenticate who asks before. Package status has a
// handler that does so, Admin.
func (m *Manager) Act(ctx context.Context, a Action) (ActionResult, error) {
	m.init()
	return m.engine.actions.act(ctx, a)
}

// ReportDenied records in the audit trail that somebody at remoteAddr, who could
// not be authenticated, wanted the Manager to do something, and why they were
// refused (audit.OperatorActionFailed). Such events are at most one a minute,
// with their number.
func (m *Manager) ReportDenied(remoteAddr string, cause error) {
	m.init()
	m.engine.reports.reportAs(deniedGroup, audit.Event{
		Kind:       audit.OperatorActionFailed,
		Decision:   audit.Refused,
		Reason:     "not authenticated",
		RemoteAddr: text.OneLine(remoteAddr, maxActor),
		Err:        cause,
	})
}
