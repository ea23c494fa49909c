package certmgr

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// Allowlist is an explicit list of hosts: exact names, and wildcards of the
// form "*.example.com", which stand for exactly one label. It can be changed
// at any time and shared by several Managers; a change holds from the next
// handshake on. A host that is taken off is not served any more, its renewal
// ends, and so does an issuance that is in flight for it. Each entry that comes
// or goes is an event of the Managers (EventHostListed, EventHostUnlisted).
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
	names atomic.Pointer[hosts.Set] // nil: empty
	file  *hosts.File               // nil: made without a file

	// changing serializes changes, so that the watchers are told of them in
	// order. It is held while watchers run, which do not block, and never while
	// a file is read.
	changing sync.Mutex

	mu       sync.Mutex // guards watchers
	watchers map[*func(change)]struct{}
}

// change tells a watcher what has happened to the list. A wildcard is named as
// it is written.
type change struct {
	added, removed []string
	again          []string // Add was called with them, and they were there
	reason         string   // the caller's

	reloaded bool // a file was read, the list has count entries
	count    int
	rejected error // why a file was not taken over; nothing has changed
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
	a.replace(entries, "")
	return a, nil
}

// parseEntries normalises entries.
func parseEntries(names iter.Seq[string]) ([]string, error) {
	entries, err := hosts.ParseEntries(names)
	return entries, listError(err)
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
	return err == nil && a.match(host) != hosts.None
}

// match looks up a normalised host. It does not allocate.
func (a *Allowlist) match(host string) hosts.Match {
	if a == nil {
		return hosts.None
	}
	return a.names.Load().Match(host)
}

// holds is match for the hot path: it compares one number as long as neither
// the list nor seen has changed.
func (a *Allowlist) holds(host string, seen *atomic.Uint64) bool {
	if a == nil {
		return false
	}
	set := a.names.Load()
	if set == nil {
		return false
	}
	if seen.Load() == set.Generation() {
		return true
	}
	if set.Match(host) == hosts.None {
		return false
	}
	seen.Store(set.Generation())
	return true
}

// All returns the entries in no particular order, as of the moment it is
// called: exact names, then wildcards as they are written.
func (a *Allowlist) All() iter.Seq[string] {
	var set *hosts.Set
	if a != nil {
		set = a.names.Load()
	}
	return set.All()
}

// Add puts names on the list. If any of them is invalid, the error names each
// of those and why, the first 100 of them if they are more, and the list stays
// as it was. Adding a host lets a failure of longer ago than 10 minutes no longer
// hold it back.
func (a *Allowlist) Add(names ...string) error { return a.Because("").Add(names...) }

// Remove takes names off the list; names that are not on it are ignored, and
// so are invalid ones. It takes effect at once: hosts that nothing else allows are
// not served any more, not renewed, and an issuance in flight for them ends
// (EventIssueCanceled) without counting as a failure. Where a Manager has a
// HostPolicy it is asked, in the background, about each of them that is in memory
// or in flight: only a refusal forgets the host and ends the issuance. Until the
// policy has allowed the host its visitors get the policy's error.
func (a *Allowlist) Remove(names ...string) { a.Because("").Remove(names...) }

// Replace puts names in the place of the whole list, in one step. If any of
// them is invalid, the error names each of those and why, the first 100 of them if
// they are more, and the list stays as it was.
func (a *Allowlist) Replace(names ...string) error { return a.Because("").Replace(names...) }

// Because returns the methods that change the list, for changes whose events tell
// reason: "customer 4711 left".
func (a *Allowlist) Because(reason string) Edit { return Edit{a, text.OneLine(reason, text.MaxError)} }

// Edit changes an Allowlist for a reason; see Allowlist.Because. It is safe for
// concurrent use. The zero value is of no use.
type Edit struct {
	list   *Allowlist
	reason string
}

// Add is Allowlist.Add.
func (e Edit) Add(names ...string) error {
	entries, err := parseEntries(slices.Values(names))
	if err != nil {
		return err
	}
	a := e.list
	a.changing.Lock()
	defer a.changing.Unlock()
	c, edit := change{reason: e.reason}, hosts.NewEdit(a.names.Load())
	for _, entry := range entries {
		if edit.Add(entry) {
			c.added = append(c.added, entry)
		} else {
			c.again = append(c.again, entry)
		}
	}
	a.publish(edit.Set(), c)
	return nil
}

// Remove is Allowlist.Remove.
func (e Edit) Remove(names ...string) {
	entries, _ := parseEntries(slices.Values(names))
	a := e.list
	a.changing.Lock()
	defer a.changing.Unlock()
	c, edit := change{reason: e.reason}, hosts.NewEdit(a.names.Load())
	for _, entry := range entries {
		if edit.Remove(entry) {
			c.removed = append(c.removed, entry)
		}
	}
	a.publish(edit.Set(), c)
}

// Replace is Allowlist.Replace.
func (e Edit) Replace(names ...string) error {
	entries, err := parseEntries(slices.Values(names))
	if err != nil {
		return err
	}
	e.list.replace(entries, e.reason)
	return nil
}

func (a *Allowlist) replace(entries []string, reason string) {
	set := hosts.Collect(entries)
	a.changing.Lock()
	defer a.changing.Unlock()
	c := change{reason: reason}
	c.added, c.removed = hosts.Difference(a.names.Load(), set)
	a.publish(set, c)
}

// publish makes set the list unless it is the same, and tells the watchers.
// a.changing is held.
func (a *Allowlist) publish(set *hosts.Set, c change) {
	if len(c.added)+len(c.removed) > 0 {
		a.names.Store(set)
	}
	a.mu.Lock()
	watchers := slices.Collect(maps.Keys(a.watchers))
	a.mu.Unlock()
	for _, w := range watchers {
		(*w)(c)
	}
}

// watch has f told of what happens to the list until stop is called; f may run
// once more while stop does. It must neither block nor change the list.
func (a *Allowlist) watch(f func(change)) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watchers == nil {
		a.watchers = make(map[*func(change)]struct{})
	}
	a.watchers[&f] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, &f)
	}
}
