package certmgr

import (
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/challenge"
)

// coalescer makes events of failures that may come for any number of names, which
// strangers can choose: of each group of them one event a minute, with the number
// of failures since the last one. Each key of a host that is on the allowlist by
// its exact name is a group of its own, as long as there are not too many, and so
// is each of the Manager's own entries; all other names share one group, and all
// tokens of http-01 another.
type coalescer struct {
	audit  *auditqueue.Queue
	listed func(host string) bool // by its exact name

	mu     sync.Mutex
	groups map[failureGroup]*failureTally
}

type failureGroup struct {
	kind audit.Kind
	of   string // a cache key or a host, or one of the names below
}

const (
	tokensGroup    = "tokens of http-01"
	strangersGroup = "names that are not on the list"
	listedGroup    = "names on the list"
)

type failureTally struct {
	at    time.Time   // of the last event
	count int         // failures since then
	last  audit.Event // the last one of them
}

const (
	// coalesceFor is the least time between two events of a group.
	coalesceFor = time.Minute

	// maxFailureGroups bounds the groups: a cache that is out of order makes no
	// event for each of a million listed hosts.
	maxFailureGroups = 256
)

// report makes an event of a failure, or counts it for the next one of its group.
// key is the cache key or the host that it is about.
func (c *coalescer) report(key string, e audit.Event) {
	group := failureGroup{e.Kind, c.groupOf(key)}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally(group, now)
	t.count++
	t.last = e
	if t.at.IsZero() || now.Sub(t.at) >= coalesceFor {
		c.emit(t, now)
	}
}

// groupOf returns the group of a cache key or a host.
func (c *coalescer) groupOf(key string) string {
	if strings.HasSuffix(key, challenge.HTTP01Key("")) {
		return tokensGroup
	}
	if host := hostOfKey(key); host != "" && !c.listed(host) {
		return strangersGroup
	}
	return key
}

// tally returns a group's tally. If there are too many groups, those whose minute is
// over make room; if that is not enough, the listed hosts share one. c.mu is held.
func (c *coalescer) tally(group failureGroup, now time.Time) *failureTally {
	if t := c.groups[group]; t != nil {
		return t
	}
	if c.groups == nil {
		c.groups = make(map[failureGroup]*failureTally)
	}
	if len(c.groups) >= maxFailureGroups {
		for g, t := range c.groups {
			if now.Sub(t.at) >= coalesceFor {
				c.emit(t, now)
				delete(c.groups, g)
			}
		}
	}
	if len(c.groups) >= maxFailureGroups {
		group.of = listedGroup
	}
	t := c.groups[group]
	if t == nil {
		t = new(failureTally)
		c.groups[group] = t
	}
	return t
}

// emit makes an event of what was counted, if anything. c.mu is held.
func (c *coalescer) emit(t *failureTally, now time.Time) {
	if t.count == 0 {
		return
	}
	e := t.last
	e.Count = t.count
	c.audit.Emit(e)
	t.at, t.count, t.last = now, 0, audit.Event{}
}

// reportAll makes events of what was counted since the last ones.
func (c *coalescer) reportAll() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.groups {
		c.emit(t, now)
	}
}
