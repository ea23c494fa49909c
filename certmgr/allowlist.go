package certmgr

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// Allowlist is an explicit list of hosts: exact names, and wildcards of the
// form "*.example.com", which stand for exactly one label. It can be changed
// at any time and shared by several Managers; a change holds from the next
// handshake on. Removing a name also ends its renewal.
//
// The zero value is an empty list and ready to use. All methods are safe for
// concurrent use; reading takes no lock.
type Allowlist struct {
	names atomic.Pointer[nameSet] // nil: empty

	mu       sync.Mutex // serializes changes; never held while a watcher runs
	watchers map[*func(change)]struct{}
}

// nameSet is immutable once it is published.
type nameSet struct {
	exact     map[string]struct{}
	wildcards map[string]struct{} // by what follows "*."

	// generation is a number of this set's own: it counts on from a random
	// one, so that no two sets of any lists share it.
	generation uint64
}

// change tells a watcher which entries came and went. A wildcard is named as
// it is written.
type change struct{ added, removed []string }

// NewAllowlist returns a list of names. If any of them is invalid, the error
// names each of those and why, and no list is returned.
func NewAllowlist(names ...string) (*Allowlist, error) {
	a := new(Allowlist)
	if err := a.Replace(names...); err != nil {
		return nil, err
	}
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
	return err == nil && a.match(host) != matchNone
}

// match says how a list holds a host.
type match uint8

const (
	matchNone match = iota
	matchWildcard
	matchExact
)

// match looks up a normalised host. It does not allocate.
func (a *Allowlist) match(host string) match {
	if a == nil {
		return matchNone
	}
	set := a.names.Load()
	if set == nil {
		return matchNone
	}
	return set.match(host)
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
	if seen.Load() == set.generation {
		return true
	}
	if set.match(host) == matchNone {
		return false
	}
	seen.Store(set.generation)
	return true
}

func (set *nameSet) match(host string) match {
	if _, ok := set.exact[host]; ok {
		return matchExact
	}
	if _, parent, ok := strings.Cut(host, "."); ok && len(set.wildcards) > 0 {
		if _, ok := set.wildcards[parent]; ok {
			return matchWildcard
		}
	}
	return matchNone
}

// All returns the entries in no particular order, as of the moment it is
// called: exact names, then wildcards as they are written.
func (a *Allowlist) All() iter.Seq[string] {
	var set *nameSet
	if a != nil {
		set = a.names.Load()
	}
	return func(yield func(string) bool) {
		if set == nil {
			return
		}
		for name := range set.exact {
			if !yield(name) {
				return
			}
		}
		for parent := range set.wildcards {
			if !yield("*." + parent) {
				return
			}
		}
	}
}

// Add puts names on the list. If any of them is invalid, the error names each
// of those and why, and the list stays as it was. Adding a host lets a failure
// of longer ago than 10 minutes no longer hold it back.
func (a *Allowlist) Add(names ...string) error {
	entries, err := parseEntries(names)
	if err != nil {
		return err
	}
	a.update(func(set *nameSet) change {
		for _, e := range entries {
			set.add(e)
		}
		return change{added: entries}
	})
	return nil
}

// Remove takes names off the list; names that are not on it are ignored, and
// so are invalid ones. It takes effect with the next handshake, and renewal of
// hosts that nothing else allows ends.
func (a *Allowlist) Remove(names ...string) {
	a.update(func(set *nameSet) change {
		var c change
		for _, name := range names {
			entry, err := parseEntry(name)
			if err == nil && set.remove(entry) {
				c.removed = append(c.removed, entry)
			}
		}
		return c
	})
}

// Replace puts names in the place of the whole list, in one step. If any of
// them is invalid, the error names each of those and why, and the list stays
// as it was.
func (a *Allowlist) Replace(names ...string) error {
	entries, err := parseEntries(names)
	if err != nil {
		return err
	}
	a.update(func(set *nameSet) change {
		old := nameSet{exact: set.exact, wildcards: set.wildcards}
		*set = newNameSet(len(entries))
		var c change
		for _, e := range entries {
			if !old.remove(e) {
				c.added = append(c.added, e)
			}
			set.add(e)
		}
		c.removed = slices.Collect(old.all())
		return c
	})
	return nil
}

// update publishes a changed copy of the set and then tells the watchers.
func (a *Allowlist) update(edit func(*nameSet) change) {
	a.mu.Lock()
	set, generation := newNameSet(0), rand.Uint64()
	if old := a.names.Load(); old != nil {
		set = nameSet{exact: maps.Clone(old.exact), wildcards: maps.Clone(old.wildcards)}
		generation = old.generation + 1
	}
	c := edit(&set)
	set.generation = max(generation, 1) // 0: nothing seen
	a.names.Store(&set)
	watchers := slices.Collect(maps.Keys(a.watchers))
	a.mu.Unlock()
	for _, w := range watchers {
		(*w)(c)
	}
}

// watch has f called after each change until stop is called. f must not block.
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

func newNameSet(n int) nameSet {
	return nameSet{exact: make(map[string]struct{}, n), wildcards: make(map[string]struct{})}
}

func (s *nameSet) add(entry string) {
	if parent, ok := strings.CutPrefix(entry, "*."); ok {
		s.wildcards[parent] = struct{}{}
		return
	}
	s.exact[entry] = struct{}{}
}

func (s *nameSet) remove(entry string) bool {
	names := s.exact
	if parent, ok := strings.CutPrefix(entry, "*."); ok {
		names, entry = s.wildcards, parent
	}
	_, ok := names[entry]
	delete(names, entry)
	return ok
}

func (s *nameSet) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.exact {
			if !yield(name) {
				return
			}
		}
		for parent := range s.wildcards {
			if !yield("*." + parent) {
				return
			}
		}
	}
}

func parseEntries(names []string) ([]string, error) {
	entries := make([]string, 0, len(names))
	var errs []error
	for _, name := range names {
		entry, err := parseEntry(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, entry)
	}
	return entries, errors.Join(errs...)
}

// parseEntry normalises an entry, and refuses what no CA would certify.
func parseEntry(name string) (string, error) {
	base, wildcard := strings.CutPrefix(name, "*.")
	host, err := normalizeHost(base)
	if err != nil {
		return "", fmt.Errorf("certmgr: allowlist entry %q: %w", oneLine(name, maxHostLength), err)
	}
	if suffix, icann := publicsuffix.PublicSuffix(host); icann && suffix == host {
		return "", fmt.Errorf("certmgr: allowlist entry %q: a public suffix, which no CA certifies", name)
	}
	if wildcard {
		return "*." + host, nil
	}
	return host, nil
}

// HostWhitelist returns a policy that allows exactly the given hosts, matched
// without regard to case and in their A-label form; wildcards and subdomains
// do not match. Invalid hosts are ignored, as autocert does. An Allowlist says
// which they are, and can be changed.
//
//go:noinline
func HostWhitelist(hosts ...string) HostPolicy {
	allowed := make(map[string]struct{}, len(hosts))
	for _, h := range hosts {
		// As autocert: what IDNA maps, so that callers may use the policy
		// on names that a Manager would refuse.
		if h, err := idna.Lookup.ToASCII(h); err == nil {
			allowed[h] = struct{}{}
			allowed[strings.TrimSuffix(h, ".")] = struct{}{} // what a Manager asks for
		}
	}
	return func(_ context.Context, host string) error {
		if _, ok := allowed[host]; ok {
			return nil
		}
		return &refusal{kind: ErrHostNotAllowed, host: host, text: "not in HostWhitelist"}
	}
}

// whitelistCode is the code of the policies that HostWhitelist makes; that it is
// not inlined keeps it one.
var whitelistCode = reflect.ValueOf(HostWhitelist()).Pointer()

// isWhitelist reports whether p is one of HostWhitelist's. Those cannot block,
// so they are asked without the goroutine and the deadline that others need: a
// scanner's handshake costs a tenth.
func isWhitelist(p HostPolicy) bool { return reflect.ValueOf(p).Pointer() == whitelistCode }
