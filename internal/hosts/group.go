package hosts

import (
	"fmt"
	"slices"
	"strings"
)

// MaxGroup is the largest number of names in a group: as many as Let's Encrypt
// puts into a certificate.
const MaxGroup = 100

// Group is a set of names that share a certificate. It is immutable. A nil Group
// has no names.
type Group struct {
	names []string // in the order written; at least two
}

// Names returns the names in the order written. The result must not be changed.
func (g *Group) Names() []string {
	if g == nil {
		return nil
	}
	return g.names
}

// First returns the name that the group is known by.
func (g *Group) First() string { return g.names[0] }

// Equal reports whether two groups have the same names in the same order.
func (g *Group) Equal(h *Group) bool { return slices.Equal(g.Names(), h.Names()) }

// SplitEntry returns the names of an entry: several if it is a group.
func SplitEntry(entry string) []string {
	return strings.FieldsFunc(entry, isSeparator)
}

// isSeparator reports whether a character separates the names of a group.
// Commas are an error: a list that was meant for another program has them too.
func isSeparator(r rune) bool { return r == ' ' || r == '\t' }

// parseGroup is ParseEntry for an entry with several names.
func parseGroup(names []string) (string, error) {
	var group []string
	for _, name := range names {
		host, err := ParseEntry(name)
		if err != nil {
			return "", err
		}
		switch {
		case strings.HasPrefix(host, "*"):
			return "", &EntryError{Entry: name, Why: "a wildcard in a group: no certificate for it can be had without dns-01; give it a line of its own"}
		case IsAddress(host):
			return "", &EntryError{Entry: name, Why: "an IP address in a group; give it a line of its own"}
		case !slices.Contains(group, host):
			group = append(group, host)
		}
	}
	return strings.Join(group, " "), checkSize(group[0], len(group))
}

// membership checks the groups of a list against each other. The zero value is
// ready.
type membership struct {
	of   map[string]string // the first name of the group that a name is in
	size map[string]int    // the number of names, by the first one
}

// check returns an error if an entry is a group that a list cannot have beside
// those before.
func (m *membership) check(entry string) error {
	names := SplitEntry(entry)
	if len(names) < 2 {
		return nil
	}
	if m.of == nil {
		m.of, m.size = make(map[string]string), make(map[string]int)
	}
	first := names[0]
	for _, name := range names {
		switch other, ok := m.of[name]; {
		case !ok:
			m.of[name] = first
			m.size[first]++
		case other != first:
			return inTwoGroups(name, other)
		}
	}
	return checkSize(first, m.size[first])
}

func checkSize(first string, n int) error {
	if n <= MaxGroup {
		return nil
	}
	return &EntryError{Entry: first, Why: fmt.Sprintf("a group of %d names; a certificate has at most %d", n, MaxGroup)}
}

func inTwoGroups(name, first string) error {
	return &EntryError{Entry: name, Why: "it is in the group of " + first + " already, and a name is in one group at most"}
}

// Group returns the group that a name is in, or nil. It does not allocate.
func (s *Set) Group(name string) *Group {
	if s == nil {
		return nil
	}
	return s.shards[s.shard(name)][name]
}

// Groups returns all groups, by their first names.
func (s *Set) Groups() []*Group {
	if s == nil || s.grouped == 0 {
		return nil
	}
	var groups []*Group
	for i := range s.shards {
		for name, g := range s.shards[i] {
			if g != nil && g.First() == name {
				groups = append(groups, g)
			}
		}
	}
	slices.SortFunc(groups, func(a, b *Group) int { return strings.Compare(a.First(), b.First()) })
	return groups
}

// AddGroup adds names as a group. If the first one is that of a group, the others
// join it. A name that is not in a group becomes a member. The error is an
// *EntryError if one is in another group, or if there are too many names; nothing
// has changed then. added are the names that are new to the set.
func (e *Edit) AddGroup(names []string) (added []string, err error) {
	all := names
	if old := e.set.Group(names[0]); old != nil {
		if old.First() != names[0] {
			return nil, inTwoGroups(names[0], old.First())
		}
		all = slices.Clone(old.names)
		for _, name := range names {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	for _, name := range all {
		if g := e.set.Group(name); g != nil && g.First() != names[0] {
			return nil, inTwoGroups(name, g.First())
		}
	}
	if err := checkSize(names[0], len(all)); err != nil {
		return nil, err
	}
	for _, name := range names {
		if e.Add(name) {
			added = append(added, name)
		}
	}
	if len(all) > 1 {
		e.regroup(&Group{names: all})
	}
	return added, nil
}

// regroup puts the names of a group, which are in the set, into it.
func (e *Edit) regroup(g *Group) {
	for _, name := range g.names {
		e.setGroup(name, g)
	}
}

func (e *Edit) setGroup(name string, g *Group) {
	i := e.set.shard(name)
	old := e.set.shards[i][name]
	e.writable(i)[name] = g
	if old != nil {
		e.set.grouped--
	}
	if g != nil {
		e.set.grouped++
	}
}

// leaveGroup takes a name out of its group. A group of one is none.
func (e *Edit) leaveGroup(name string) {
	g := e.set.Group(name)
	if g == nil {
		return
	}
	e.setGroup(name, nil)
	rest := slices.DeleteFunc(slices.Clone(g.names), func(other string) bool { return other == name })
	if len(rest) == 1 {
		e.setGroup(rest[0], nil)
		return
	}
	e.regroup(&Group{names: rest})
}

// Regrouped returns the names of set whose group is not the same as in old.
func Regrouped(old, set *Set) (names []string) {
	if set == nil || set.grouped == 0 && (old == nil || old.grouped == 0) {
		return nil
	}
	for i := range set.shards {
		for name, g := range set.shards[i] {
			if was := old.Group(name); was != g && !was.Equal(g) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
