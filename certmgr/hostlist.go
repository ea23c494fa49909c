package certmgr

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nostall/nostall/internal/hosts"
)

// hostList implements Allowlist: entries, the file if they come from one, and
// the watchers of changes. The zero value is empty. All methods are safe for
// concurrent use; reads take no lock, and a nil list is empty.
type hostList struct {
	names atomic.Pointer[hosts.Set] // nil if empty
	file  *hosts.File               // nil if there is no file

	// changing serializes changes, so that watchers see them in order. It is
	// held while watchers run, which do not block, and never while a file is
	// read.
	changing sync.Mutex

	mu       sync.Mutex // guards watchers
	watchers map[*func(change)]struct{}
}

// change describes a change of the list to its watchers. Wildcards are as
// written.
type change struct {
	added, removed []string
	again          []string // entries passed to Add that were already on the list
	regrouped      []string // names whose group is another one, or none any more
	reason         string   // the caller's reason
	actor          string   // who had the file read, if that is known

	reloaded bool // a file was read and the list has count entries
	count    int
	rejected error // why a file was rejected; nothing has changed
}

// match looks up a normalised host. It does not allocate.
func (l *hostList) match(host string) hosts.Match {
	if l == nil {
		return hosts.None
	}
	return l.names.Load().Match(host)
}

// holds is match for the hot path: as long as neither the list nor seen has
// changed, it only compares a number.
func (l *hostList) holds(host string, seen *atomic.Uint64) bool {
	if l == nil {
		return false
	}
	set := l.names.Load()
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

// all returns the current entries: names, then wildcards.
func (l *hostList) all() iter.Seq[string] {
	if l == nil {
		return (*hosts.Set)(nil).All()
	}
	return l.names.Load().All()
}

// add is Allowlist.Add.
func (l *hostList) add(names []string, reason string) error {
	entries, err := parseEntries(slices.Values(names))
	if err != nil {
		return err
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	c, edit := change{reason: reason}, hosts.NewEdit(l.names.Load())
	for _, entry := range entries {
		names := hosts.SplitEntry(entry)
		var added []string
		if len(names) > 1 {
			if added, err = edit.AddGroup(names); err != nil {
				return listError(err)
			}
		} else if edit.Add(entry) {
			added = names
		}
		for _, name := range names {
			if slices.Contains(added, name) {
				c.added = append(c.added, name)
			} else {
				c.again = append(c.again, name)
			}
		}
	}
	l.publish(edit.Set(), c)
	return nil
}

// group returns the group that a host is in, or nil. It does not allocate.
func (l *hostList) group(host string) *hosts.Group {
	if l == nil {
		return nil
	}
	return l.names.Load().Group(host)
}

// remove is Allowlist.Remove.
func (l *hostList) remove(names []string, reason string) {
	entries, _ := parseEntries(slices.Values(names))
	l.changing.Lock()
	defer l.changing.Unlock()
	c, edit := change{reason: reason}, hosts.NewEdit(l.names.Load())
	for _, entry := range entries {
		for _, name := range hosts.SplitEntry(entry) {
			if edit.Remove(name) {
				c.removed = append(c.removed, name)
			}
		}
	}
	l.publish(edit.Set(), c)
}

// replaceNames is Allowlist.Replace.
func (l *hostList) replaceNames(names []string, reason string) error {
	entries, err := parseEntries(slices.Values(names))
	if err != nil {
		return err
	}
	l.replace(entries, reason)
	return nil
}

// parseEntries normalises entries.
func parseEntries(names iter.Seq[string]) ([]string, error) {
	entries, err := hosts.ParseEntries(names)
	return entries, listError(err)
}

// replace replaces the whole list.
func (l *hostList) replace(entries []string, reason string) {
	set := hosts.Collect(entries)
	l.changing.Lock()
	defer l.changing.Unlock()
	c := change{reason: reason}
	c.added, c.removed = hosts.Difference(l.names.Load(), set)
	l.publish(set, c)
}

// publish stores set as the list if it has changes, and notifies the watchers.
// l.changing is held.
func (l *hostList) publish(set *hosts.Set, c change) {
	if set != nil {
		c.regrouped = hosts.Regrouped(l.names.Load(), set)
	}
	if len(c.added)+len(c.removed)+len(c.regrouped) > 0 {
		l.names.Store(set)
	}
	l.mu.Lock()
	watchers := slices.Collect(maps.Keys(l.watchers))
	l.mu.Unlock()
	for _, w := range watchers {
		(*w)(c)
	}
}

// watch calls f for each change of the list until stop is called; f may run
// once more during stop. f must neither block nor change the list.
func (l *hostList) watch(f func(change)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers == nil {
		l.watchers = make(map[*func(change)]struct{})
	}
	l.watchers[&f] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, &f)
	}
}
