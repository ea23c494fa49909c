package status

import (
	"fmt"
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

// setAdmin gives the page its buttons, if it is to have any.
func setAdmin(v *view, o options) {
	if v.Admin = newAdminView(o); v.Admin == nil {
		return
	}
	for i := range v.Rows {
		if act := v.Rows[i].Act; act != nil {
			act.Path = o.adminAt
		}
		if f := v.Rows[i].Failure; f != nil && f.Act != nil {
			f.Act.Path = o.adminAt
		}
	}
}

// actView is what an operator can do about a host now: by a button, or by a call
// in the program where the page has none.
type actView struct{ Path, Host, Action, Name, Call string }

// newActView returns nil if an issuance is in flight.
func newActView(h *certmgr.HostStatus) *actView {
	v := &actView{Host: clean(h.Host, maxName)}
	switch {
	case h.Issuing:
		return nil
	case h.State == certmgr.StateValid:
		v.Action, v.Name, v.Call = string(certmgr.ActionRenew), "Renew now", "Renew"
	default:
		v.Action, v.Name, v.Call = string(certmgr.ActionRetry), "Retry now", "Obtain"
	}
	v.Call = fmt.Sprintf("m.%s(ctx, %q)", v.Call, v.Host)
	return v
}
