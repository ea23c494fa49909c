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
	v.mu.Lock()
	defer v.mu.Unlock()
	v.noteChange()
	for _, entry := range c.added {
		if v.isFull() {
			return
		}
		known := v.add(entry, listed, now)
		known.since, known.fresh = now.Unix(), true
		if known.unlisted { // it was allowed by a wildcard or policy before
			known.unlisted = false
			v.hosts.Put(entry, known, nil)
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
	for host, known := range v.hosts.All() {
		if _, parent, _ := strings.Cut(host, "."); known.unlisted && parents[parent] {
			v.hosts.Delete(host)
		}
	}
}

// followClock corrects times recorded before the wall clock was set. If the
// clock was put forward, entries would seem to have been watched for too long:
// watching them then starts again, whatever the Cache has.
func (v *visits) followClock(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, jumped := now.Unix(), v.clock.look(now) > maxClockStep
	if jumped {
		v.noteChange()
	}
	for _, known := range v.hosts.All() {
		if jumped {
			known.since, known.fresh = t, true
		}
		known.since = min(known.since, t)
		for _, seen := range []*atomic.Int64{&known.asked, &known.reached, &known.needed[bundle.ECDSA], &known.needed[bundle.RSA]} {
			if seen.Load() > t && set(seen, t) {
				v.noteChange()
			}
		}
	}
}

// maxClockStep is how far the clock may be put forward without that. A
// suspended machine looks the same.
const maxClockStep = 24 * time.Hour
