package certmgr

import (
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
)

// coalescer coalesces events of failures for names, which clients can choose:
// one event a minute for each group, with the number of failures since the last
// one. Each key of a host that is on the allowlist by its exact name is a
// group, as long as there are not too many, and so is each of the Manager's own
// entries. All other names share one group, and all http-01 tokens another.
// Records share one for each kind of record, with an event a day: a cache may
// refuse them all, and certificates do not depend on them.
type coalescer struct {
	audit  *auditqueue.Queue
	listed func(host string) bool // whether Hosts has the host's exact name

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
	recordsGroup   = "records of " // and their kind
	panicsGroup    = "panics of "  // and the callback's name
)

type failureTally struct {
	at    time.Time   // time of the last event
	count int         // failures since then
	last  audit.Event // the last of them
}

const (
	// coalesceFor is the shortest time between two events of a group, and
	// coalesceRecordsFor that of a group of records.
	coalesceFor        = time.Minute
	coalesceRecordsFor = 24 * time.Hour

	// maxFailureGroups is the largest number of groups: a broken cache must not
	// cause an event for each of a million listed hosts.
	maxFailureGroups = 256
)

// report emits an event of a failure, or counts it for the next event of its
// group. key is the cache key or the host concerned.
func (c *coalescer) report(key string, e audit.Event) { c.reportAs(c.groupOf(key), e) }

// panicked reports a user's callback that panicked.
func (c *coalescer) panicked(name string, d *flight.Death) {
	c.reportAs(panicsGroup+name, audit.Event{
		Kind:   audit.CallbackPanicked,
		Reason: name,
		Err:    d,
		Stack:  d.Stack(),
	})
}

// reportAs is report for a group.
func (c *coalescer) reportAs(of string, e audit.Event) {
	group := failureGroup{e.Kind, of}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally(group, now)
	t.count++
	t.last = e
	if t.at.IsZero() || now.Sub(t.at) >= group.wait() {
		c.emit(t, now)
	}
}

// wait returns the shortest time between two events of the group.
func (g failureGroup) wait() time.Duration {
	if strings.HasPrefix(g.of, recordsGroup) {
		return coalesceRecordsFor
	}
	return coalesceFor
}

// groupOf returns the group of a cache key or a host.
func (c *coalescer) groupOf(key string) string {
	if strings.HasSuffix(key, challenge.HTTP01Key("")) {
		return tokensGroup
	}
	if isRecord(key) {
		return recordsGroup + recordKind(key)
	}
	if host := hostOfKey(key); host != "" && !c.listed(host) {
		return strangersGroup
	}
	return key
}

// tally returns a group's tally. If there are too many groups, those whose
// minute is over are removed; if that is not enough, the listed hosts share
// one. c.mu is held.
func (c *coalescer) tally(group failureGroup, now time.Time) *failureTally {
	if t := c.groups[group]; t != nil {
		return t
	}
	if c.groups == nil {
		c.groups = make(map[failureGroup]*failureTally)
	}
	if len(c.groups) >= maxFailureGroups {
		for g, t := range c.groups {
			if now.Sub(t.at) >= g.wait() {
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

// emit emits an event of the counted failures, if any. c.mu is held.
func (c *coalescer) emit(t *failureTally, now time.Time) {
	if t.count == 0 {
		return
	}
	e := t.last
	e.Count = t.count
	c.audit.Emit(e)
	t.at, t.count, t.last = now, 0, audit.Event{}
}

// reportAll emits events of all failures counted since the last ones.
func (c *coalescer) reportAll() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.groups {
		c.emit(t, now)
	}
}
