package certmgr

import (
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/internal/hosts"
)

// visits tracks when clients last asked for allowed hosts, when the CA last
// reached these, and how many of their handshakes were refused. It knows
// nothing of hosts that are not allowed. Entries of the allowlist are under the
// same names; those of wildcards stand for all hosts below.
type visits struct {
	mu       sync.RWMutex
	hosts    map[string]*visit
	unlisted int // number of hosts not on the list by name when added
	list     *hostList
	began    func() // called once, at the first visit

	clock clockWatch // of followClock
}

// visit is the record of one host. Times are Unix seconds; 0 means never.
type visit struct {
	since    int64        // known since; guarded by visits.mu
	asked    atomic.Int64 // when a client last asked, to visitEvery
	reached  atomic.Int64 // when a certificate was last issued here
	refused  atomic.Uint64
	unlisted bool // guarded by visits.mu
	fresh    bool // added to the list while this process was running; guarded by visits.mu
}

const (
	// visitEvery is the precision of the last visit: a write for each handshake
	// would make the cores contend.
	visitEvery = time.Hour

	// maxVisits is the largest number of hosts that are not on the list by
	// name.
	maxVisits = 10_000

	// maxWatched is the largest number of entries of the list watched before
	// any client asks for them.
	maxWatched = 20_000
)

func newVisits(list *hostList, began func()) *visits {
	return &visits{hosts: make(map[string]*visit), list: list, began: sync.OnceFunc(began)}
}

// noteAsked records a handshake for an allowed host.
func (v *visits) noteAsked(host string, g grant, now time.Time) {
	if known := v.get(host, g.trust, now); known != nil {
		if recently(known.asked.Load(), now.Unix()) {
			return
		}
		known.asked.Store(now.Unix())
	}
	// Strangers may have reached the bound; the entry is updated anyway.
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

// recently reports whether a time in Unix seconds needs no update at now. A
// time in the future is from a clock that was ahead.
func recently(t, now int64) bool {
	return t != 0 && now-t >= 0 && now-t < int64(visitEvery/time.Second)
}

// get returns the host's record, creating it if necessary, or nil if there are
// too many.
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

// watch starts tracking the entries of the list that are not tracked yet.
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

// isFull reports whether no more entries are watched before a client asks for
// them. v.mu is held.
func (v *visits) isFull() bool { return len(v.hosts)-v.unlisted >= maxWatched }

// noteRefused records a refused handshake for a host, if the host is known.
func (v *visits) noteRefused(host string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if known := v.hosts[host]; known != nil {
		known.refused.Add(1)
	}
}

// forget removes the record of a host or entry.
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

// of returns when a client last asked for a host, and how many handshakes were
// refused.
func (v *visits) of(host string) (asked time.Time, refused uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if known := v.hosts[host]; known != nil {
		return fromUnix(known.asked.Load()), known.refused.Load()
	}
	return time.Time{}, 0
}

// sightings returns the times of an entry of the list.
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

// sightings holds when an entry of the list was first watched, last asked for
// and last reached. It is stored in the Cache.
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
