package certmgr

import (
	"slices"
	"strings"
)

// AddGroup adds names that share a certificate: one order, one renewal and one
// key for all of them. It is for names that belong together, such as
// example.com and www.example.com: whoever sees the certificate sees all its
// names, and Manager.Revoke revokes it for all of them. A group has at most 100
// names, and none is a wildcard or in another group; otherwise the list does not
// change, and the error says why. Names that are on the list already become
// members. If the first name is that of a group, the others join it. One name
// alone is a plain entry. Remove takes a name out of its group and off the list.
// The first name stands for the group in events and errors.
//
// Each handshake is still allowed or refused by its own name. A group's
// certificate is ordered for all its names, except those that have failed their
// validation: they leave the order, back off by themselves, and are tried again
// alone and at the next renewal. Until then, as after a name has been added, a
// name that the certificate lacks has one of its own, as it would without the
// group. So a change of the list is never the reason for an order of the group:
// the next renewal follows it. A name that is removed is not served from then on,
// and left out at the renewal. Names that have valid certificates when they
// become a group keep them until the first of them is due.
func (a *Allowlist) AddGroup(names ...string) error { return a.list.add(oneEntry(names), "") }

// Groups returns the names of each group, the first name first, by the first
// names. A nil list has none.
func (a *Allowlist) Groups() [][]string {
	l := a.hostList()
	if l == nil {
		return nil
	}
	var groups [][]string
	for _, g := range l.names.Load().Groups() {
		groups = append(groups, slices.Clone(g.Names()))
	}
	return groups
}

// AddGroup is Allowlist.AddGroup.
func (e AllowlistEdit) AddGroup(names ...string) error {
	return e.list.add(oneEntry(names), e.reason)
}

// oneEntry returns names as one entry.
func oneEntry(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{strings.Join(names, " ")}
}
