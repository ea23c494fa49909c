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

// visitsKey is where the Cache keeps what visits knows of the list's entries, so
// that a restart does not begin to count the days anew. Machines that share a
// Cache merge what they know; what one overwrites it writes again.
const visitsKey = "certmgr+visits"

const (
	firstVisitsSave = time.Minute // for processes that do not live long
	visitsSaveEvery = time.Hour
)

// visitRecord is the entry's JSON form. Times are in UTC and whole days.
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

// visitStore keeps what visits knows in the Cache.
type visitStore struct {
	*env
	visits *visits
	store  *store
}

// keepVisits keeps visits and the Cache in step until the Manager is closed.
func (s *visitStore) keepVisits(ctx context.Context) {
	if s.settings.hosts == nil {
		return
	}
	saved := ""
	for wait := firstVisitsSave; ; wait = visitsSaveEvery {
		if found, err := s.recallVisits(ctx); err == nil { // else it is written another time
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

// recallVisits brings what is known of the list's entries up to date with the list
// and the Cache, and returns what the Cache has. An error was reported by store; a
// damaged record counts as none.
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

// followClock repairs what was written down by a clock that has been set since.
// One that was put forward made the time seem long for which entries are watched:
// they are watched from now on, whatever the Cache says.
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

// maxClockStep is how far a clock may be put forward without that. A machine that
// slept looks like one whose clock was.
const maxClockStep = 24 * time.Hour

// mergeVisits takes over what the record knows of entries that are on the list.
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

// visitRecord returns what is to be saved.
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

// dayOf drops the time of day: the record changes once a day and not each hour.
func dayOf(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(24 * time.Hour)
}

// changed follows a change of the list: what is added is watched from now on,
// whatever was known of it once, and what is removed is forgotten, with the hosts
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
		if known.unlisted { // something else allowed it before
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
