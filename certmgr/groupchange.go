package certmgr

import (
	"slices"
	"strings"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// regrouped applies a change of groups: names are those whose group is another one
// now, or none. No certificate is ordered for that.
func (w *listWatch) regrouped(e audit.Event, names []string) {
	e.Kind = audit.GroupChanged
	told := make(map[string]bool)
	for _, name := range names {
		g := w.settings.hosts.group(name)
		switch {
		case g == nil:
			e.Host, e.Names = name, ""
		case told[g.First()]:
			continue
		default:
			told[g.First()] = true
			e.Host, e.Names = g.First(), others(g.First(), g.Names())
		}
		if len(told) <= maxEntryEvents {
			w.audit.Emit(e)
		}
	}
	w.keeper.regroup(names)
}

// regroup implements keeper.
func (s *service) regroup(names []string) {
	changed, gone := regroup(s.memory, s.env, names)
	for _, c := range changed {
		s.schedule.planLoaded(c)
	}
	for _, sub := range gone {
		s.schedule.dropUnserved(sub)
	}
}

// entered notes that a certificate is in service: what its hosts had planned for
// certificates of their own is over, and those that it lacks have the one before
// for themselves.
func (s *service) entered(c *certificate) {
	for _, host := range c.hosts() {
		s.progress.have(host)
		if c.subject.group {
			s.schedule.dropUnserved(s.ownSubject(host, c.alg))
		}
	}
	if g := s.groupOf(c.subject); g != nil {
		s.regroup(g.Names())
	}
}

// forgetGroup forgets what failed for the group of which a host was the first name.
func (s *service) forgetGroup(host string) {
	sub := s.ownSubject(host, bundle.ECDSA)
	sub.group = true
	if s.groupOf(sub) == nil {
		s.failures.forgetHost(sub.id())
	}
}

// maxOthers is the length of the further names of a group in an event, in bytes.
const maxOthers = 1024

// others returns the names besides host for an event, or "". A list that is too long
// ends with dots.
func others(host string, names []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == host })
	list := strings.Join(names, " ")
	if len(list) <= maxOthers {
		return list
	}
	cut := strings.LastIndexByte(list[:maxOthers-len(" ...")], ' ')
	return list[:cut] + " ..."
}

// newGroups returns what a group's certificate depends on.
func newGroups(e *env, m *memory, f *failures, d *dnsWaits) groups {
	return groups{
		current: func(sub subject) *certificate {
			if c := m.current(sub); c != nil && c.usable(e.now()) {
				return c
			}
			return nil
		},
		failed: func(own subject) bool {
			return f.last(own) != nil || d.has(own.host()) || e.own.until(own.host(), e.now()).After(e.now())
		},
		failing: func(own subject) bool {
			return f.active(own, e.now()) != nil || d.of(own.host()) != nil || e.own.until(own.host(), e.now()).After(e.now())
		},
	}
}
