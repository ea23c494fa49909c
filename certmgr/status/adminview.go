package status

import (
	"maps"
	"slices"

	"github.com/nostall/nostall/certmgr"
)

// adminView is what the page's buttons need.
type adminView struct {
	Path    string   // of Admin
	Reasons []string // of a revocation; empty if none is allowed
}

// newAdminView returns nil if the page has no buttons.
func newAdminView(o options) *adminView {
	if o.adminAt == "" {
		return nil
	}
	v := &adminView{Path: o.adminAt}
	if o.revoke {
		v.Reasons = slices.Sorted(maps.Keys(reasons()))
	}
	return v
}

// actionFor returns the action that a host's button is for.
func actionFor(h *certmgr.HostStatus) certmgr.ActionKind {
	if h.State == certmgr.StateValid {
		return certmgr.ActionRenew
	}
	return certmgr.ActionRetry
}
