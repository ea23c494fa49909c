package certmgr

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// hostsChanged is told of what happens to the allowlist. It does not block.
func (s *stages) hostsChanged(c change) {
	if s.tasks.isClosed() {
		return
	}
	if c.rejected != nil {
		s.audit.emit(Event{Kind: EventAllowlistRejected, Rule: "Hosts", Reason: "the list stays as it is", Err: c.rejected})
		return
	}
	s.visits.changed(c, s.now())
	s.reportEntries(Event{Kind: EventHostListed, Decision: Allowed, Rule: "Hosts", Reason: c.reason}, c.added)
	s.reportEntries(Event{Kind: EventHostUnlisted, Decision: Refused, Rule: "Hosts", Reason: c.reason}, c.removed)
	if c.reloaded {
		s.audit.emit(Event{Kind: EventAllowlistReloaded, Rule: "Hosts", Reason: c.reason, Count: c.count})
	}
	if s.failures.count.Load() > 0 && len(c.added)+len(c.again) > 0 {
		named := collectNames(slices.Concat(c.added, c.again))
		s.failures.shorten(func(host string) bool { return named.match(host) != matchNone })
	}
	if len(c.removed) > 0 {
		s.endUnlisted(c)
	}
}

// maxEntryEvents is how many entries of a change have an event each.
const maxEntryEvents = 100

// reportEntries makes an event of each entry, or of all of them if they are many.
func (s *stages) reportEntries(e Event, entries []string) {
	if n := len(entries); n > maxEntryEvents {
		e.Host, e.Count = entries[0], n
		s.audit.emit(e)
		return
	}
	for _, entry := range entries {
		e.Host = entry
		s.audit.emit(e)
	}
}

// endUnlisted ends what goes on for hosts that an entry allowed and that nothing else
// does. What is in flight ends before it returns, unless HostPolicy is to be asked.
func (s *stages) endUnlisted(c change) {
	for _, name := range c.removed {
		s.progress.have(name) // no Start waits for it any more
	}
	if s.settings.hostPolicy == nil {
		s.issues.cancel(func(key string) error {
			host, _ := splitFlightKey(key)
			if s.settings.listed(host) != notAllowed {
				return nil
			}
			return takenOff(host, c.reason, nil)
		})
	}
	s.tasks.Go(func(ctx context.Context) {
		hosts := s.affected(c.removed)
		if s.settings.hostPolicy == nil {
			for _, host := range hosts {
				s.dropHost(host, nil)
			}
			return
		}
		s.eachHost(ctx, hosts, func(host string) { s.askAgainAbout(ctx, host, c.reason) })
	})
}

// askAgainAbout asks HostPolicy about a host that was taken off the list.
func (s *stages) askAgainAbout(ctx context.Context, host, reason string) {
	_, refused, err := s.permit(ctx, host)
	switch {
	case refused:
		s.issues.cancel(func(key string) error {
			if h, _ := splitFlightKey(key); h != host {
				return nil
			}
			return takenOff(host, reason, err)
		})
		s.dropHost(host, err)
	case err != nil && ctx.Err() == nil:
		s.policy.report(host, err)
	}
}

// affected returns the hosts that entries allowed, that Hosts does not hold any
// more, and that there is something of: a certificate in memory, an issuance in
// flight, a failure.
func (s *stages) affected(entries []string) []string {
	var hosts, wildcards []string
	for _, entry := range entries {
		if strings.HasPrefix(entry, "*") {
			wildcards = append(wildcards, entry)
		} else if s.deals(entry) {
			hosts = append(hosts, entry)
		}
	}
	if len(wildcards) > 0 {
		below := collectNames(wildcards)
		for _, host := range s.dealings() {
			if below.match(host) != matchNone {
				hosts = append(hosts, host)
			}
		}
	}
	return slices.DeleteFunc(hosts, func(host string) bool { return s.settings.listed(host) != notAllowed })
}

// deals reports whether there is something of host.
func (s *stages) deals(host string) bool {
	if len(s.memory.certificates(host)) > 0 {
		return true
	}
	for kt := range keyType(keyTypeCount) {
		sub := hostSubject(host, kt, s.dir)
		if s.issues.running(flightKey(sub)) != nil || s.failures.last(sub) != nil {
			return true
		}
	}
	return false
}

// dealings returns all hosts that there is something of.
func (s *stages) dealings() []string {
	var hosts []string
	for _, c := range s.memory.all() {
		hosts = append(hosts, c.subject.host())
	}
	s.issues.each(func(c *issueCall) {
		host, _ := splitFlightKey(c.key)
		hosts = append(hosts, host)
	})
	s.failures.all(func(host string, _ *failure, _ bool) { hosts = append(hosts, host) })
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// watchHostsFile has the allowlist's file read when it changes, until ctx ends. A
// file system that hangs costs a goroutine and holds up nothing.
func (s *stages) watchHostsFile(ctx context.Context, looks *callouts) {
	ticker := time.NewTicker(filePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		in, cancel := context.WithTimeout(ctx, fileTimeout)
		_, err := callOut(in, looks, s.settings.hosts.file.path, func(ctx context.Context) (struct{}, error) {
			s.settings.hosts.poll(ctx)
			return struct{}{}, nil
		})
		cancel()
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrBusy) {
			s.settings.hosts.hangs(err)
		}
	}
}
