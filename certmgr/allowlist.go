package certmgr

import (
	"iter"
	"slices"

	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// Allowlist is an explicit list of hosts: exact names, and wildcards of the
// form "*.example.com", which stand for exactly one label. It can be changed
// at any time and shared by several Managers; a change holds from the next
// handshake on. A host that is taken off is not served any more, its renewal
// ends, and so does an issuance that is in flight for it. Each entry that comes
// or goes is an event of the Managers (audit.HostListed, audit.HostUnlisted).
//
// What no public CA certifies cannot be an entry: IP addresses, single labels,
// public suffixes ("co.uk") and wildcards right below them (CA/Browser Forum
// Baseline Requirements, 3.2.2.6). As CAs do, this goes by the ICANN section of
// the Public Suffix List: "github.io" and "*.github.io" can be entries, for those
// who own such a domain.
//
// A list may have a million entries: a lookup takes the same time as in a short
// list, and a change of one entry copies a thousandth of it. Change many by one
// call. The zero value is an empty list and ready to use. All methods are safe for
// concurrent use; reading takes no lock. An Allowlist must not be copied.
type Allowlist struct {
	list hostList
}

// NewAllowlist returns a list of names. If any of them is invalid, the error
// names each of those and why, the first 100 of them if they are more, and no
// list is returned.
func NewAllowlist(names ...string) (*Allowlist, error) { return CollectAllowlist(slices.Values(names)) }

// CollectAllowlist is NewAllowlist for names that come one by one, from a
// database for example.
func CollectAllowlist(names iter.Seq[string]) (*Allowlist, error) {
	entries, err := parseEntries(names)
	if err != nil {
		return nil, err
	}
	a := new(Allowlist)
	a.list.replace(entries, "")
	return a, nil
}

// MustAllowlist is like NewAllowlist but panics if a name is invalid. It is
// for lists that are written in the program's text.
func MustAllowlist(names ...string) *Allowlist {
	a, err := NewAllowlist(names...)
	if err != nil {
		panic(err)
	}
	return a
}

// Contains reports whether host, in any case and with or without a trailing
// dot, is on the list or below one of its wildcards. A nil list is empty.
func (a *Allowlist) Contains(host string) bool {
	host, err := normalizeHost(host)
	return err == nil && a.hostList().match(host) != hosts.None
}

// All returns the entries in no particular order, as of the moment it is
// called: exact names, then wildcards as they are written.
func (a *Allowlist) All() iter.Seq[string] { return a.hostList().all() }

// hostList returns what a list that may be nil is made of, or nil.
func (a *Allowlist) hostList() *hostList {
	if a == nil {
		return nil
	}
	return &a.list
}

// Add puts names on the list. If any of them is invalid, the error names each
// of those and why, the first 100 of them if they are more, and the list stays
// as it was. Adding a host lets a failure of longer ago than 10 minutes no longer
// hold it back.
func (a *Allowlist) Add(names ...string) error { return a.list.add(names, "") }

// Remove takes names off the list; names that are not on it are ignored, and
// so are invalid ones. It takes effect at once: hosts that nothing else allows are
// not served any more, not renewed, and an issuance in flight for them ends
// (audit.IssuanceCanceled) without counting as a failure. Where a Manager has a
// HostPolicy it is asked, in the background, about each of them that is in memory
// or in flight: only a refusal forgets the host and ends the issuance. Until the
// policy has allowed the host its visitors get the policy's error.
func (a *Allowlist) Remove(names ...string) { a.list.remove(names, "") }

// Replace puts names in the place of the whole list, in one step. If any of
// them is invalid, the error names each of those and why, the first 100 of them if
// they are more, and the list stays as it was.
func (a *Allowlist) Replace(names ...string) error { return a.list.replaceNames(names, "") }

// Because returns the methods that change the list, for changes whose events tell
// reason: "customer 4711 left".
func (a *Allowlist) Because(reason string) AllowlistEdit {
	return AllowlistEdit{&a.list, text.OneLine(reason, text.MaxError)}
}

// AllowlistEdit changes an Allowlist for a reason; see Allowlist.Because. It is safe
// for concurrent use. The zero value is of no use.
type AllowlistEdit struct {
	list   *hostList
	reason string
}

// Add is Allowlist.Add.
func (e AllowlistEdit) Add(names ...string) error { return e.list.add(names, e.reason) }

// Remove is Allowlist.Remove.
func (e AllowlistEdit) Remove(names ...string) { e.list.remove(names, e.reason) }

// Replace is Allowlist.Replace.
func (e AllowlistEdit) Replace(names ...string) error { return e.list.replaceNames(names, e.reason) }
