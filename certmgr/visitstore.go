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

	synced []byte // the record when visits last had the same; only sync uses it
}

// keepVisits synchronises visits and the Cache until the Manager is closed. It
// wakes for changes only, and once a day for those of other machines.
func (s *visitStore) keepVisits(ctx context.Context) {
	defer s.visits.setRestored()
	if s.settings.hosts == nil {
		return
	}
	changed := false
	for wait := firstVisitsSave; ; wait = visitsSaveEvery {
		synced := time.Now()
		if !s.sync(ctx, changed) {
			s.visits.noteChange() // the next round tries again
		}
		select {
		case <-s.visits.changed:
			changed = true
		case <-time.After(visitsReadEvery):
			changed = false
		case <-ctx.Done():
			return
		}
		if left := wait - time.Since(synced); left > 0 && flight.Sleep(ctx, left) != nil {
			return
		}
	}
}

// sync merges the Cache's record and visits, and writes the record if that
// changed it. It reports whether both have the same then. changed says that
// visits have changed since the last time.
func (s *visitStore) sync(ctx context.Context, changed bool) bool {
	s.visits.followClock(s.now())
	s.visits.watch(s.settings.hosts.all(), s.now())
	select {
	case <-s.visits.changed: // so far: what follows is for the next time
		changed = true
	default:
	}
	if changed && s.synced != nil {
		return s.update(ctx)
	}
	found, err := s.recall(ctx)
	if err != nil {
		return false
	}
	data, err := s.encode()
	if err != nil || !bytes.Equal(data, found) && s.store.put(ctx, visitsKey, data) != nil {
		return false
	}
	s.synced = data
	return true
}

// update is sync for visits that have changed: one call of the Cache's instead
// of two.
func (s *visitStore) update(ctx context.Context) bool {
	var data []byte
	synced := s.synced // the call may outlive its time-out
	err := s.store.update(ctx, visitsKey, func(found []byte) (_ []byte, err error) {
		s.merge(found, synced)
		data, err = s.encode()
		return data, err
	})
	if err != nil {
		return false
	}
	s.synced = data
	return true
}

// recall merges the Cache's record into visits, and returns it as it is stored,
// nil if there is none. An error has been reported by store.
func (s *visitStore) recall(ctx context.Context) ([]byte, error) {
	defer s.visits.setRestored()
	found, err := s.store.getInTask(ctx, s.store.reads, visitsKey)
	if errors.Is(err, ErrCacheMiss) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.merge(found, s.synced)
	return found, nil
}

// merge merges a record of the Cache's into visits, unless it is the one that
// this process wrote last. A damaged record counts as missing.
func (s *visitStore) merge(found, synced []byte) {
	if found == nil || bytes.Equal(found, synced) {
		return
	}
	var rec visitRecord
	if err := decodeRecord(found, maxVisitRecord, &rec); err != nil {
		s.reports.badRecord(visitsKey, err)
		return
	}
	s.visits.merge(rec.Hosts, s.now())
}

// encode returns the record of visits.
func (s *visitStore) encode() ([]byte, error) { return json.Marshal(s.visitRecord()) }

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
