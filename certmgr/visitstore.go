package certmgr

import (
	"bytes"
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
	visitsSaveEvery = time.Hour   // at most

	// visitsReadEvery is how often the record is read if nothing changes here,
	// for the sake of what other machines have seen.
	visitsReadEvery = 24 * time.Hour
)

// visitRecord is the JSON form. Times are in UTC and whole days.
type visitRecord struct {
	Hosts map[string]sightings `json:"hosts"`
}

// visitStore stores visits in the Cache.
type visitStore struct {
	*env
	visits *visits
	store  *store

	synced []byte // the record when visits last had the same; only keepVisits uses it
}

// keepVisits synchronises visits and the Cache until the Manager is closed. It
// wakes for changes only, and once a day for those of other machines.
func (s *visitStore) keepVisits(ctx context.Context) {
	defer s.visits.setRestored()
	if s.settings.hosts == nil {
		return
	}
	for wait := firstVisitsSave; ; wait = visitsSaveEvery {
		if !s.sync(ctx) {
			s.visits.noteChange() // the next round tries again
		}
		if flight.Sleep(ctx, wait) != nil {
			return
		}
		select {
		case <-s.visits.changed:
		case <-time.After(visitsReadEvery - wait):
		case <-ctx.Done():
			return
		}
	}
}

// sync merges the Cache's record and visits, and writes the record if that
// changed it. It reports whether both have the same then.
func (s *visitStore) sync(ctx context.Context) bool {
	s.visits.followClock(s.now())
	s.visits.watch(s.settings.hosts.all(), s.now())
	select {
	case <-s.visits.changed: // what has changed so far
	default:
	}
	found, err := s.recallVisits(ctx)
	if err != nil {
		return false
	}
	data, err := json.Marshal(s.visitRecord())
	if err != nil || !bytes.Equal(data, found) && s.store.put(ctx, visitsKey, data) != nil {
		return false
	}
	s.synced = data
	return true
}

// recallVisits merges the Cache's record into visits, and returns it as it is
// stored. An error has been reported by store; a damaged record counts as
// missing.
func (s *visitStore) recallVisits(ctx context.Context) ([]byte, error) {
	defer s.visits.setRestored()
	data, err := s.store.get(ctx, visitsKey)
	if errors.Is(err, ErrCacheMiss) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if bytes.Equal(data, s.synced) {
		return data, nil // no other machine has written
	}
	var rec visitRecord
	if err := decodeRecord(data, maxVisitRecord, &rec); err != nil {
		s.reports.badRecord(visitsKey, err)
		return nil, nil
	}
	s.visits.merge(rec.Hosts, s.now())
	return data, nil
}

// visitRecord returns the data to save.
func (s *visitStore) visitRecord() visitRecord {
	rec := visitRecord{Hosts: make(map[string]sightings)}
	for entry := range s.settings.hosts.all() {
		if len(rec.Hosts) == maxWatched {
			break
		}
		if seen, ok := s.visits.sightings(entry); ok {
			rec.Hosts[entry] = sightings{
				Since:   dayOf(seen.Since),
				Asked:   dayOf(seen.Asked),
				Reached: dayOf(seen.Reached),
				ECDSA:   dayOf(seen.ECDSA),
				RSA:     dayOf(seen.RSA),
				Waiting: seen.Waiting.UTC(),
			}
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
