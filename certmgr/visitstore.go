package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// visitsKey is the key in the Cache for the visits of the list's entries, so
// that a restart does not reset them. Machines that share a Cache merge their
// data; what one overwrites, the other writes again.
const visitsKey = "certmgr+visits"

const (
	firstVisitsSave = time.Minute // for short-lived processes
	visitsSaveEvery = time.Hour
)

// visitRecord is the JSON form. Times are in UTC and whole days.
type visitRecord struct {
	Hosts map[string]sightings `json:"hosts"`
}

// covers reports whether r has all the entries of other.
func (r visitRecord) covers(other visitRecord) bool {
	for entry := range other.Hosts {
		if _, ok := r.Hosts[entry]; !ok {
			return false
		}
	}
	return true
}

// visitStore stores visits in the Cache.
type visitStore struct {
	*env
	visits *visits
	store  *store
}

// keepVisits synchronises visits and the Cache until the Manager is closed.
func (s *visitStore) keepVisits(ctx context.Context) {
	if s.settings.hosts == nil {
		return
	}
	saved := ""
	for wait := firstVisitsSave; ; wait = visitsSaveEvery {
		if found, err := s.recallVisits(ctx); err == nil { // otherwise write it next time
			rec := s.visitRecord()
			data, err := json.Marshal(rec)
			if err == nil && (string(data) != saved || !found.covers(rec)) && s.store.put(ctx, visitsKey, data) == nil {
				saved = string(data)
			}
		}
		if flight.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// recallVisits updates visits from the list and the Cache, and returns the
// Cache's record. An error has been reported by store; a damaged record counts
// as missing.
func (s *visitStore) recallVisits(ctx context.Context) (visitRecord, error) {
	s.visits.followClock(s.now())
	s.visits.watch(s.settings.hosts.all(), s.now())
	data, err := s.store.get(ctx, visitsKey)
	if errors.Is(err, ErrCacheMiss) {
		return visitRecord{}, nil
	}
	if err != nil {
		return visitRecord{}, err
	}
	var rec visitRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		s.audit.Emit(audit.Event{Kind: audit.CacheEntryRejected, Reason: fmt.Sprintf("the entry under %q counts as missing", visitsKey), Err: err})
		return visitRecord{}, nil
	}
	s.mergeVisits(rec)
	return rec, nil
}

// followClock corrects times recorded before the wall clock was set. If the
// clock was put forward, entries would seem to have been watched for too long:
// they are then watched anew, whatever the Cache says.
func (v *visits) followClock(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, jumped := now.Unix(), false
	if !v.looked.IsZero() {
		ran := int64(time.Since(v.looked) / time.Second)
		jumped = t-v.clock-ran > int64(maxClockStep/time.Second)
	}
	v.clock, v.looked = t, time.Now()
	for _, known := range v.hosts {
		if jumped {
			known.since, known.fresh = t, true
		}
		known.since = min(known.since, t)
		for _, seen := range []*atomic.Int64{&known.asked, &known.reached} {
			if seen.Load() > t {
				seen.Store(t)
			}
		}
	}
}

// maxClockStep is how far the clock may be put forward without that. A
// suspended machine looks the same.
const maxClockStep = 24 * time.Hour

// mergeVisits merges the record's data on entries that are on the list.
func (s *visitStore) mergeVisits(rec visitRecord) {
	v, now := s.visits, s.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for entry, seen := range rec.Hosts {
		known := v.hosts[entry]
		if known == nil {
			continue // not on the list
		}
		if t := seen.Since.Unix(); !seen.Since.IsZero() && t < known.since && !known.fresh {
			known.since = t
		}
		if t := seen.Asked.Unix(); !seen.Asked.After(now) && t > known.asked.Load() {
			known.asked.Store(t)
		}
		if t := seen.Reached.Unix(); !seen.Reached.After(now) && t > known.reached.Load() {
			known.reached.Store(t)
		}
	}
}

// visitRecord returns the data to save.
func (s *visitStore) visitRecord() visitRecord {
	rec := visitRecord{Hosts: make(map[string]sightings)}
	for entry := range s.settings.hosts.all() {
		if len(rec.Hosts) == maxWatched {
			break
		}
		if seen, ok := s.visits.sightings(entry); ok {
			rec.Hosts[entry] = sightings{dayOf(seen.Since), dayOf(seen.Asked), dayOf(seen.Reached)}
		}
	}
	return rec
}

// dayOf drops the time of day, so that the record changes once a day and not
// every hour.
func dayOf(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(24 * time.Hour)
}

// changed applies a change of the list: added entries are watched from now,
// whatever was known before, and removed ones are forgotten, with the hosts
// below a wildcard.
func (v *visits) changed(c change, now time.Time) {
	v.forgetEntries(c.removed)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, entry := range c.added {
		if v.isFull() {
			return
		}
		known := v.add(entry, false, now)
		known.since, known.fresh = now.Unix(), true
		if known.unlisted { // it was allowed by a wildcard or policy before
			known.unlisted = false
			v.unlisted--
		}
	}
}

func (v *visits) forgetEntries(entries []string) {
	parents := make(map[string]bool)
	for _, entry := range entries {
		v.forget(entry)
		if parent, ok := strings.CutPrefix(entry, "*."); ok {
			parents[parent] = true
		}
	}
	if len(parents) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for host, known := range v.hosts {
		if _, parent, _ := strings.Cut(host, "."); known.unlisted && parents[parent] {
			delete(v.hosts, host)
			v.unlisted--
		}
	}
}
