package certmgr

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// A StaleHost is an entry of Manager.Hosts that should perhaps be removed from
// the list.
type StaleHost struct {
	Entry         string         // as on the list: a host or a wildcard
	Reason        string         // why it is stale, in words
	WatchedSince  time.Time      // when watching the entry began
	LastRequested time.Time      // when a client last asked, to the hour, or to the day if before the last start; zero if never
	LastValidated time.Time      // when the CA last validated the host here; zero if never
	Failure       *IssuanceError // the last failure, or nil; do not change it
}

// StaleHosts returns the entries of Hosts, sorted, that no client asked for in
// the last d, or for which the CA could not reach this server in the last d
// although it tried. Entries watched for less than d are not included. A name that
// has waited for DNS for 7 days, or for d if that is less, is included whatever d
// is: Reason says where it leads.
//
// The data is kept in the Cache across restarts, for lists of up to 20,000
// entries; further entries are watched from their first handshake. What other
// machines with this Cache have seen counts within about a day. A zero or
// negative d means 30 days.
func (m *Manager) StaleHosts(d time.Duration) []StaleHost {
	m.init()
	s := m.engine.report
	if d <= 0 {
		d = 30 * 24 * time.Hour
	}
	if m.Hosts == nil {
		return nil
	}
	s.visits.began()
	s.visits.followClock(s.now())
	before := s.now().Add(-d)
	failed := s.lastFailures()
	var stale []StaleHost
	for entry := range m.Hosts.All() {
		if h, ok := s.stale(entry, failed[entry], before); ok {
			stale = append(stale, h)
		}
	}
	slices.SortFunc(stale, func(a, b StaleHost) int { return cmp.Compare(a.Entry, b.Entry) })
	return stale
}

// stale checks one entry and ignores everything before a time. rec is the
// entry's last failure, if any.
func (s *report) stale(entry string, rec *failure, before time.Time) (StaleHost, bool) {
	seen, ok := s.visits.sightings(entry)
	waits := s.health.dns.of(entry)
	if !ok && waits == nil {
		return StaleHost{}, false
	}
	h := StaleHost{Entry: entry, WatchedSince: seen.Since, LastRequested: seen.Asked, LastValidated: seen.Reached}
	for _, c := range s.memory.certificates(entry) {
		h.LastValidated = pace.Later(h.LastValidated, c.notBefore)
	}
	var reasons []string
	if rec != nil {
		h.Failure = rec.err
		if pace.Later(h.LastValidated, seen.Since).Before(before) {
			reasons = append(reasons, fmt.Sprintf("no certificate was issued for it %s; the last attempt failed at stage %q",
				sinceWords(h.LastValidated, "since the last one on ", "since watching began"), rec.err.Stage))
		}
	}
	if pace.Later(h.LastRequested, seen.Since).Before(before) {
		reasons = append(reasons, "no client asked for it "+sinceWords(h.LastRequested, "since ", "since watching began"))
	}
	if since := s.health.dns.since(entry); waits != nil && since.Before(pace.Later(before, s.now().Add(-staleAfter+1))) {
		h.Failure = waits
		reasons = append(reasons, "it does not lead here since "+since.UTC().Format(time.DateOnly)+": "+text.Cause(waits.Err))
	}
	h.Reason = strings.Join(reasons, "; ")
	return h, len(reasons) > 0
}

func sinceWords(t time.Time, prefix, never string) string {
	if t.IsZero() {
		return never
	}
	return prefix + t.UTC().Format(time.DateOnly)
}

// lastFailures returns the failures of all hosts, by host.
func (s *report) lastFailures() map[string]*failure {
	failed := make(map[string]*failure)
	s.eachFailure(func(host string, rec *failure, _ bool) {
		if have := failed[host]; have == nil || rec.err.Time.After(have.err.Time) {
			failed[host] = rec
		}
	})
	return failed
}
