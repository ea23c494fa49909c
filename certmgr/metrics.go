package certmgr

import (
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// Metrics holds a Manager's counters since it was created, and its current
// gauges. Nothing in it grows with client input. Counters never decrease.
type Metrics struct {
	Time time.Time // when the metrics were taken

	Handshakes        map[audit.Result]uint64 // all results, including those that did not occur
	Issued            uint64                  // certificates issued
	Failed            map[audit.Stage]uint64  // failed issuances, by the stage where they failed; all stages
	TimeToCertificate DurationHistogram       // from the start of a successful issuance to its certificate
	CARequests        []CARequestCount        // sorted by endpoint and status
	Events            map[audit.Kind]uint64   // events by kind; all kinds
	EventsDropped     uint64                  // events lost because Manager.Audit is too slow

	HostCounts // of the moment

	Queued        int       // issuances in flight that wait for a slot
	IssuingLimit  int       // the limit of slots: Manager.MaxIssuing
	Waiting       int       // handshakes waiting
	WaitingLimit  int       // the limit of Waiting: Manager.MaxWaiting
	CAUnavailable time.Time // the CA is not tried before this; zero if it is in use
	Warnings      int       // see Snapshot.Warnings
	OrderBudget   int       // the limit of orders in 3 hours: Manager.OrderBudget; 0 if there is none
	OrdersLeft    int       // orders of it that are left, as far as known: other machines' are seen once a minute
	NoAccount     bool      // the CA is not tried because there is no account, for a reason other than the CA
}

// CARequestCount counts requests to the CA.
type CARequestCount struct {
	// Endpoint is the resource's name in the directory (RFC 8555, section
	// 9.7.5): "directory", "newNonce", "newAccount", "newOrder", "revokeCert",
	// "keyChange", "renewalInfo"; "other" for orders, authorizations,
	// challenges, certificates and the account itself.
	Endpoint string
	Status   int // HTTP status; 0 if there was no reply
	Count    uint64
}

// DurationHistogram counts durations in buckets. Counts[i] is the number of
// durations greater than Bounds[i-1] and at most Bounds[i]. Counts has one more
// element than Bounds, for the rest.
type DurationHistogram struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration // sum of all durations
}

// Count returns the number of durations.
func (h DurationHistogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Metrics returns the current metrics. It visits each host once: some
// milliseconds for 10,000.
func (m *Manager) Metrics() Metrics {
	m.init()
	s := m.engine.report
	now := s.now()
	v := Metrics{
		Time:         now,
		Handshakes:   s.handshakes.all(),
		IssuingLimit: s.settings.maxIssuing,
		Waiting:      s.waiters.Waiting(),
		WaitingLimit: s.settings.maxWaiting,
		Failed:       make(map[audit.Stage]uint64),
	}
	v.Events, v.EventsDropped = s.audit.Totals()
	s.issuer.issuances.read(&v)
	for _, c := range s.issuer.orders.ca.Counts() {
		v.CARequests = append(v.CARequests, CARequestCount{Endpoint: c.Endpoint.String(), Status: c.Status, Count: c.Requests})
	}
	_, v.Queued = s.issuer.slots.Load()
	out := s.health.breaker.state()
	v.OrderBudget, v.OrdersLeft = s.issuer.orders.budget.size, s.issuer.orders.budget.left()
	v.CAUnavailable, v.NoAccount = out.wait.Until, out.noAccount
	hosts := s.hostStatuses(now)
	v.HostCounts = countHosts(hosts, now)
	v.Warnings = len(s.warnAbout(hosts))
	return v
}

// issuances counts issuances by outcome.
type issuances struct {
	mu     sync.Mutex
	issued uint64
	failed map[audit.Stage]uint64
	took   DurationHistogram
}

func newIssuances() *issuances {
	i := &issuances{failed: make(map[audit.Stage]uint64)}
	i.took.Bounds = []time.Duration{
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
		20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	}
	i.took.Counts = make([]uint64, len(i.took.Bounds)+1)
	return i
}

func (i *issuances) succeeded(took time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued++
	i.took.add(took)
}

func (i *issuances) failedAt(s audit.Stage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failed[s]++
}

func (h *DurationHistogram) add(d time.Duration) {
	n := 0
	for n < len(h.Bounds) && d > h.Bounds[n] {
		n++
	}
	h.Counts[n]++
	h.Sum += max(d, 0)
}

// read copies the counts into v.
func (i *issuances) read(v *Metrics) {
	i.mu.Lock()
	defer i.mu.Unlock()
	v.Issued = i.issued
	for _, stage := range audit.Stages() {
		v.Failed[stage] = i.failed[stage]
	}
	v.TimeToCertificate = DurationHistogram{Bounds: slices.Clone(i.took.Bounds), Counts: slices.Clone(i.took.Counts), Sum: i.took.Sum}
}
