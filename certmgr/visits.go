package certmgr

import (
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/hosts"
)

// visits knows when allowed hosts were last asked for and last reached by the CA,
// and how many of their visitors were refused. Of hosts that are not allowed it
// knows nothing. Entries of the allowlist are known by the same names; those of
// wildcards stand for all hosts below.
type visits struct {
	mu       sync.RWMutex
	hosts    map[string]*visit
	unlisted int // of hosts, those that were not on the list by name when they came
	list     *hostList
	began    func() // called once, at the first visit

	// What followClock saw last: the wall clock in Unix seconds, and when by the
	// monotonic clock.
	clock  int64
	looked time.Time
}

// visit is what is known of one host. Times are Unix seconds; 0: never.
type visit struct {
	since    int64        // known since; guarded by visits.mu
	asked    atomic.Int64 // the last visitor, to visitEvery
	reached  atomic.Int64 // the last certificate that was issued here
	refused  atomic.Uint64
	unlisted bool // guarded by visits.mu
	fresh    bool // it came onto the list while this process ran; guarded by visits.mu
}

const (
	// visitEvery is how exactly the time of the last visitor is known: writing it
	// down for each would make the cores fight for it.
	visitEvery = time.Hour

	// maxVisits bounds the hosts that the list does not hold by their names.
	maxVisits = 10_000

	// maxWatched bounds the entries of the list that are watched before anybody
	// asks for them.
	maxWatched = 20_000
)

func newVisits(list *hostList, began func()) *visits {
	return &visits{hosts: make(map[string]*visit), list: list, began: sync.OnceFunc(began)}
}

// noteAsked notes a visitor of an allowed host.
func (v *visits) noteAsked(host string, g grant, now time.Time) {
	if known := v.get(host, g.trust, now); known != nil {
		if recently(known.asked.Load(), now.Unix()) {
			return
		}
		known.asked.Store(now.Unix())
	}
	// Strangers may have used up the bound: the entry is told all the same.
	if v.list.match(host) == hosts.Wildcard {
		_, parent, _ := strings.Cut(host, ".")
		if entry := v.get("*."+parent, listed, now); entry != nil && !recently(entry.asked.Load(), now.Unix()) {
			entry.asked.Store(now.Unix())
		}
	}
}

// noteReached notes that the CA validated a host here.
func (v *visits) noteReached(host string, g grant, now time.Time) {
	if known := v.get(host, g.trust, now); known != nil {
		known.reached.Store(now.Unix())
	}
}

// recently reports whether a time in Unix seconds needs no update at now. One in
// the future was noted by a clock that was ahead.
func recently(t, now int64) bool {
	return t != 0 && now-t >= 0 && now-t < int64(visitEvery/time.Second)
}

// get returns the host's record, a new one if need be, or nil if there are too many.
func (v *visits) get(host string, t trust, now time.Time) *visit {
	v.mu.RLock()
	known := v.hosts[host]
	v.mu.RUnlock()
	if known != nil {
		return known
	}
	v.began()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.add(host, t, now)
}

// add is get with v.mu held.
func (v *visits) add(host string, t trust, now time.Time) *visit {
	if known := v.hosts[host]; known != nil {
		return known
	}
	unlisted := t != listed
	if unlisted {
		if v.unlisted >= maxVisits {
			return nil
		}
		v.unlisted++
	}
	known := &visit{since: now.Unix(), unlisted: unlisted}
	v.hosts[host] = known
	return known
}

// watch begins to know the entries of the list that it does not know yet.
func (v *visits) watch(entries iter.Seq[string], now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for entry := range entries {
		if v.isFull() {
			return
		}
		v.add(entry, listed, now)
	}
}

// isFull reports whether no more entries are watched before anybody asks for them.
// v.mu is held.
func (v *visits) isFull() bool { return len(v.hosts)-v.unlisted >= maxWatched }

// noteRefused notes that a visitor of a host was refused, if the host is known.
func (v *visits) noteRefused(host string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if known := v.hosts[host]; known != nil {
		known.refused.Add(1)
	}
}

// forget drops what is known of a host or entry.
func (v *visits) forget(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known := v.hosts[host]; known != nil {
		delete(v.hosts, host)
		if known.unlisted {
			v.unlisted--
		}
	}
}

// of returns when a host was last asked for, and how many were refused.
func (v *visits) of(host string) (asked time.Time, refused uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if known := v.hosts[host]; known != nil {
		return fromUnix(known.asked.Load()), known.refused.Load()
	}
	return time.Time{}, 0
}

// sightings returns what is known of an entry of the list.
func (v *visits) sightings(entry string) (s sightings, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	known := v.hosts[entry]
	if known == nil {
		return sightings{}, false
	}
	return sightings{fromUnix(known.since), fromUnix(known.asked.Load()), fromUnix(known.reached.Load())}, true
}

// merge merges what others have seen of entries that are on the list.
func (v *visits) merge(others map[string]sightings, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for entry, seen := range others {
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

// sightings is when an entry of the list was first watched, and last asked for
// and reached. It is what is kept in the Cache.
type sightings struct {
	Since   time.Time `json:"since"`
	Asked   time.Time `json:"asked,omitzero"`
	Reached time.Time `json:"reached,omitzero"`
}

func fromUnix(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(t, 0)
}
