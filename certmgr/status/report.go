package status

import (
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// report is the content of a response, before formatting.
type report struct {
	query   query // with an existing page
	snap    certmgr.Snapshot
	metrics certmgr.Metrics
	counts  counts
	matched int
	pages   int
	hosts   []*certmgr.HostStatus // on this page
	events  []audit.Event         // oldest first
}

// counts summarises all hosts. It is computed from the Snapshot, not from the
// Metrics, which are taken at another time and might not match the hosts.
type counts struct {
	states     map[certmgr.HostState]int
	attention  int
	late       int // valid certificates whose renewal fails
	backingOff int // hosts whose next attempt is not due yet
	inFlight   int
	soonest    *certmgr.HostStatus // the first of the valid ones to expire, or nil
}

func newReport(snap certmgr.Snapshot, metrics certmgr.Metrics, q query) *report {
	r := &report{query: q, snap: snap, metrics: metrics, counts: count(snap)}
	found := find(snap.Hosts, q)
	arrange(found, q)
	r.matched = len(found)
	r.pages = max(1, (len(found)+q.limit-1)/q.limit)
	r.query.page = min(q.page, r.pages)
	first := (r.query.page - 1) * q.limit
	r.hosts = found[first:min(first+q.limit, len(found))]
	r.events = snap.RecentEvents
	if q.host != "" {
		r.events = nil
		for _, e := range snap.RecentEvents {
			if e.Host == q.host {
				r.events = append(r.events, e)
			}
		}
	}
	return r
}

func count(snap certmgr.Snapshot) counts {
	c := counts{states: make(map[certmgr.HostState]int)}
	for _, s := range states() {
		c.states[s] = 0
	}
	for i := range snap.Hosts {
		h := &snap.Hosts[i]
		c.states[h.State]++
		if needsAttention(h) {
			c.attention++
		}
		if late(h) {
			c.late++
		}
		if snap.Time.Before(h.RetryAt) {
			c.backingOff++
		}
		if h.Issuing {
			c.inFlight++
		}
		if h.State == certmgr.StateValid && (c.soonest == nil || h.NotAfter.Before(c.soonest.NotAfter)) {
			c.soonest = h
		}
	}
	return c
}

// late reports whether a certificate is valid but could not be renewed.
func late(h *certmgr.HostStatus) bool { return h.State == certmgr.StateValid && h.Failure != nil }

// needsAttention reports whether an operator should look at a host. A first
// attempt is no reason.
func needsAttention(h *certmgr.HostStatus) bool {
	return h.Failure != nil || h.State != certmgr.StateValid && h.State != certmgr.StateIssuing
}

// next returns when a host's certificate is renewed or tried again. Zero means
// with the next handshake.
func next(h *certmgr.HostStatus) time.Time {
	if h.Failure == nil || h.RetryAt.IsZero() {
		return h.RenewAt
	}
	if h.State == certmgr.StateValid && h.RenewAt.After(h.RetryAt) {
		return h.RenewAt // the retry was due but could not begin, for example because the CA is down
	}
	return h.RetryAt
}
