package certmgr

import (
	"iter"
	"slices"

	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// Allowlist is an explicit list of hosts: exact names, wildcards of the form
// "*.example.com", which match exactly one label, and IP addresses, which no
// wildcard matches. It can be changed at any
// time and shared by several Managers; a change takes effect with the next
// handshake. A removed host is no longer served, its renewal ends, and so does
// an issuance in flight for it. Each added or removed entry is an event of the
// Managers (audit.HostListed, audit.HostUnlisted).
//
// An address is written as usual, an IPv6 address with or without brackets, and
// has no port, zone or prefix length. What it is on the list, in events and for
// HostPolicy is its canonical form (RFC 5952), such as 2001:db8::1; 192.0.2.1 is
// that of ::ffff:192.0.2.1 too. Addresses that only a private CA certifies, such
// as those of private networks, can be entries.
//
// Names can share a certificate: see AddGroup. An entry of several names,
// separated by spaces, is such a group, in all methods that take names.
//
// Names that no public CA certifies cannot be entries: single labels, public
// suffixes ("co.uk") and wildcards directly below them
// (CA/Browser Forum Baseline Requirements, 3.2.2.6). Like CAs, the list uses
// the ICANN section of the Public Suffix List: "github.io" and "*.github.io"
// can be entries, for the owners of such a domain.
//
// A list may have a million entries: a lookup is as fast as in a short list,
// and a change of one entry copies a thousandth of the list. Change many
// entries by one call. The zero value is an empty list, ready to use. All
// methods are safe for concurrent use; reads take no lock. An Allowlist must
// not be copied.
type Allowlist struct {
	list hostList
}

// NewAllowlist returns a list of names. If any are invalid, it returns no list,
// and an error that names each of them with the reason, up to 100.
func NewAllowlist(names ...string) (*Allowlist, error) { return CollectAllowlist(slices.Values(names)) }

// CollectAllowlist is NewAllowlist for names from an iterator, for example over
// a database.
func CollectAllowlist(names iter.Seq[string]) (*Allowlist, error) {
	entries, err := parseEntries(names)
	if err != nil {
		return nil, err
	}
	a := new(Allowlist)
	a.list.replace(entries, "")
	return a, nil
}

// MustAllowlist is like NewAllowlist but panics if a name is invalid. It is for
// lists in the program's source.
func MustAllowlist(names ...string) *Allowlist {
	a, err := NewAllowlist(names...)
	if err != nil {
		panic(err)
	}
	return a
}

// Contains reports whether host, in any case and with or without a trailing
// dot, is on the list or matches one of its wildcards. A nil list is empty.
func (a *Allowlist) Contains(host string) bool {
	host, err := normalizeAny(host, noHost)
	return err == nil && a.hostList().match(host) != hosts.None
}

// All returns the entries at the time of the call, in no particular order:
// exact names, then wildcards as written.
func (a *Allowlist) All() iter.Seq[string] { return a.hostList().all() }

// hostList returns the list behind a, or nil if a is nil.
func (a *Allowlist) hostList() *hostList {
	if a == nil {
		return nil
	}
	return &a.list
}

// Add adds names to the list. If any are invalid, the list does not change, and
// the error names each of them with the reason, up to 100. For a host that is
// backing off, adding it allows one earlier attempt, at most twice an hour.
func (a *Allowlist) Add(names ...string) error { return a.list.add(names, "") }

// Remove removes names from the list; unknown and invalid names are ignored. It
// takes effect at once. Hosts that nothing else allows are no longer served or
// renewed, and an issuance in flight for them ends (audit.IssuanceCanceled)
// without counting as a failure. If a Manager has a HostPolicy, the policy is
// asked in the background about each of them that is in memory or in flight:
// only a refusal drops the host and ends the issuance. Until the policy has
// allowed the host, its handshakes get the policy's error.
func (a *Allowlist) Remove(names ...string) { a.list.remove(names, "") }

// Replace replaces the whole list in one step. If any names are invalid, the
// list does not change, and the error names each of them with the reason, up to
// 100.
func (a *Allowlist) Replace(names ...string) error { return a.list.replaceNames(names, "") }

// Because returns methods that change the list and give the events a reason,
// such as "customer 4711 left".
func (a *Allowlist) Because(reason string) AllowlistEdit {
	return AllowlistEdit{&a.list, text.OneLine(reason, text.MaxError)}
}

// AllowlistEdit changes an Allowlist for a reason; see Allowlist.Because. It is
// safe for concurrent use. The zero value is not usable.
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
