package certmgr

import (
	"sync"
	"sync/atomic"
	"time"
)

// visits knows when allowed hosts were last asked for, and how many of their
// visitors were refused. Of hosts that are not allowed it knows nothing.
type visits struct {
	mu       sync.RWMutex
	hosts    map[string]*visit
	unlisted int // of hosts, those that were not on the list by name when they came
}

// visit is what is known of one host.
type visit struct {
	asked    atomic.Int64 // Unix seconds, to visitEvery; 0: never
	refused  atomic.Uint64
	unlisted bool
}

const (
	// visitEvery is how exactly the time of the last visitor is known: writing it
	// down for each would make the cores fight for it.
	visitEvery = time.Hour

	// maxVisits bounds the hosts that the list does not hold by their names.
	maxVisits = 10_000
)

func newVisits() *visits { return &visits{hosts: make(map[string]*visit)} }

// asked notes a visitor of an allowed host.
func (v *visits) asked(host string, g grant, now time.Time) {
	v.mu.RLock()
	known := v.hosts[host]
	v.mu.RUnlock()
	if known == nil {
		if known = v.add(host, g.unlisted()); known == nil {
			return
		}
	}
	if t := now.Unix(); !recently(known.asked.Load(), t) {
		known.asked.Store(t)
	}
}

// recently reports whether a time in Unix seconds needs no update at now. One in
// the future was noted by a clock that was ahead.
func recently(t, now int64) bool {
	return t != 0 && now-t >= 0 && now-t < int64(visitEvery/time.Second)
}

// add returns the host's record, a new one if need be, or nil if there are too many.
func (v *visits) add(host string, unlisted bool) *visit {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known := v.hosts[host]; known != nil {
		return known
	}
	if unlisted {
		if v.unlisted >= maxVisits {
			return nil
		}
		v.unlisted++
	}
	known := &visit{unlisted: unlisted}
	v.hosts[host] = known
	return known
}

// refused notes that a visitor of a host was refused, if the host is known.
func (v *visits) refused(host string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if known := v.hosts[host]; known != nil {
		known.refused.Add(1)
	}
}

// forget drops what is known of a host.
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
	known := v.hosts[host]
	if known == nil {
		return time.Time{}, 0
	}
	if t := known.asked.Load(); t != 0 {
		asked = time.Unix(t, 0)
	}
	return asked, known.refused.Load()
}
