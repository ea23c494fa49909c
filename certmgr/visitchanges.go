package certmgr

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// follow applies a change of the list: added entries are watched from now,
// whatever was known before, and removed ones are forgotten, with the hosts
// below a wildcard.
func (v *visits) follow(c change, now time.Time) {
	v.forgetEntries(c.removed)
	v.noteChange()
	for _, entry := range c.added {
		if !v.watchAdded(entry, now) {
			return
		}
	}
}

func (v *visits) watchAdded(entry string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.isFull() {
		return false
	}
	known := v.add(entry, listed, now)
	known.since, known.fresh = now.Unix(), true
	v.unlisted.Delete(entry) // it was allowed by a wildcard or policy before
	return true
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
	for host := range v.hosts.All() {
		if _, parent, _ := strings.Cut(host, "."); parents[parent] {
			v.forgetUnlisted(host)
		}
	}
}

// forgetUnlisted removes the record of a host that is not on the list by name.
func (v *visits) forgetUnlisted(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, unlisted := v.unlisted.Get(host); unlisted {
		v.unlisted.Delete(host)
		v.hosts.Delete(host)
	}
}

// followClock corrects times recorded before the wall clock was set. If the
// clock was put forward, entries would seem to have been watched for too long:
// watching them then starts again, whatever the Cache has.
func (v *visits) followClock(now time.Time) {
	v.correctAll(now, v.clockMoved(now) > maxClockStep)
}

// followSteps is followClock for frequent use: unless the clock was set since the
// last look, it does not look at all records.
func (v *visits) followSteps(now time.Time) {
	moved := v.clockMoved(now)
	if jumped := moved > maxClockStep; jumped || moved < -time.Second {
		v.correctAll(now, jumped)
	}
}

func (v *visits) clockMoved(now time.Time) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.clock.look(now)
}

func (v *visits) correctAll(now time.Time, jumped bool) {
	if jumped {
		v.noteChange()
	}
	for _, known := range v.hosts.All() {
		v.correct(known, now.Unix(), jumped)
	}
}

// correct is correctAll for one record.
func (v *visits) correct(known *visit, t int64, jumped bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if jumped {
		known.since, known.fresh = t, true
	}
	known.since = min(known.since, t)
	if waiting := known.waiting.Load(); (waiting > t || jumped && waiting != 0) && set(&known.waiting, t) {
		v.noteChange()
	}
	for _, seen := range []*atomic.Int64{&known.asked, &known.reached, &known.needed[bundle.ECDSA], &known.needed[bundle.RSA]} {
		if seen.Load() > t && set(seen, t) {
			v.noteChange()
		}
	}
}

// maxClockStep is how far the clock may be put forward without that. A
// suspended machine looks the same.
const maxClockStep = 24 * time.Hour
