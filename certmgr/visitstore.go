package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"time"

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
	if err := decodeRecord(data, maxVisitRecord, &rec); err != nil {
		s.reports.badRecord(visitsKey, err)
		return visitRecord{}, nil
	}
	s.visits.merge(rec.Hosts, s.now())
	return rec, nil
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
