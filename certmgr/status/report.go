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
	counts  certmgr.HostCounts
	soonest *certmgr.HostStatus // the first certificate to expire, or nil
	groups  []*group            // of all hosts, whatever the filter
	matched int
	pages   int
	hosts   []*certmgr.HostStatus // on this page
	events  []audit.Event         // oldest first
	kept    certmgr.HostEvents    // of the host of the query, if it has one
}

// newReport makes a report. Hosts are counted from the Snapshot, not from the
// Metrics, which are taken at another time and might not match the hosts.
func newReport(source Source, q query) *report {
	r := &report{query: q, snap: source.Snapshot(), metrics: source.Metrics()}
	r.counts = r.snap.Counts()
	r.soonest = soonest(r.snap.Hosts, r.counts.SoonestExpiry)
	r.groups = groupHosts(r.snap.Hosts)
	found := find(r.snap.Hosts, q)
	arrange(found, q)
	limit := q.hosts()
	r.matched = len(found)
	r.pages = max(1, (len(found)+limit-1)/limit)
	r.query.page = min(q.page, r.pages)
	first := (r.query.page - 1) * limit
	r.hosts = found[first:min(first+limit, len(found))]
	r.events = r.snap.RecentEvents
	if q.host != "" {
		r.kept = source.HostEvents(q.host)
		r.events = r.kept.Events
	}
	return r
}

// soonest returns the host whose certificate ends at a time of HostCounts.
func soonest(hosts []certmgr.HostStatus, at time.Time) *certmgr.HostStatus {
	for i := range hosts {
		h := &hosts[i]
		if h.State == certmgr.StateValid && h.RenewalCause != certmgr.RenewalCauseUnneeded && h.NotAfter.Equal(at) {
			return h
		}
	}
	return nil
}

// attentionOf returns how many hosts need attention.
func attentionOf(c certmgr.HostCounts) int { return c.HostsFailing + c.RenewalsLate }

// needsAttention reports whether an operator should look at a host. A first
// attempt is no reason.
func needsAttention(h *certmgr.HostStatus) bool { return h.IsFailing() || h.IsLate() }

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
