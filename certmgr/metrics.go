package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/account"
)

// Metrics is what a Manager has counted since it was made, and how it stands
// now, in numbers alone: nothing in it grows with what strangers ask for.
// Counters never go down.
type Metrics struct {
	Time time.Time // when it was taken

	Handshakes        map[audit.Result]uint64 // each result, those that did not occur included
	Issued            uint64                  // certificates issued
	Failed            map[audit.Stage]uint64  // issuances that failed, by the stage where they did; each stage
	TimeToCertificate DurationHistogram       // from the start of an issuance to its certificate; those that succeeded
	CARequests        []CARequestCount        // by endpoint and status, in that order
	Events            map[audit.Kind]uint64   // events by their kind; each kind
	EventsDropped     uint64                  // events lost because Manager.Audit is too slow

	Hosts         map[HostState]int // hosts and key types by their state; each state
	InFlight      int               // issuances in flight: those that hold a slot and those that wait for one
	Queued        int               // of these, the ones that wait for a slot
	IssuingLimit  int               // how many may hold a slot: Manager.MaxIssuing
	Waiting       int               // handshakes that wait
	WaitingLimit  int               // how many may: Manager.MaxWaiting
	BackingOff    int               // hosts whose next attempt is not due yet, those with a valid certificate included
	RenewalsLate  int               // valid certificates whose renewal fails
	SoonestExpiry time.Time         // of the certificates in memory that are valid; zero: there are none
	CAUnavailable time.Time         // the CA is not tried before; zero: it is in use
	NoAccount     bool              // the CA is not tried because there is no account, for a reason that is not the CA's
}

// CARequestCount counts requests to the CA.
type CARequestCount struct {
	// Endpoint is the resource as the directory names it (RFC 8555, section 9.7.5): "directory",
	// "newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"; "other" for
	// orders, authorizations, challenges, certificates and the account itself.
	Endpoint string
	Status   int // HTTP status; 0: no reply came
	Count    uint64
}

// DurationHistogram counts durations in classes. Counts[i] is how many were at most
// Bounds[i] and more than the bound before; the last of Counts, which has one
// more element than Bounds, counts the rest.
type DurationHistogram struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration // of all durations
}

// Count returns how many durations there were.
func (h DurationHistogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Metrics returns the numbers. It looks at each host once: some milliseconds for
// 10,000.
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
		Hosts:        make(map[HostState]int),
	}
	v.Events, v.EventsDropped = s.audit.Totals()
	s.issuer.issuances.read(&v)
	for _, c := range s.issuer.orders.ca.Counts() {
		v.CARequests = append(v.CARequests, CARequestCount{Endpoint: c.Endpoint.String(), Status: c.Status, Count: c.Requests})
	}
	_, v.Queued = s.issuer.slots.Load()
	var cause error
	v.CAUnavailable, _, cause = s.health.breaker.state()
	v.NoAccount = account.IsUnavailable(cause)
	for _, state := range hostStates() {
		v.Hosts[state] = 0
	}
	hosts, late := s.hostStatuses(now)
	v.RenewalsLate = late
	for _, st := range hosts {
		v.Hosts[st.State]++
		if st.State == StateValid && (v.SoonestExpiry.IsZero() || st.NotAfter.Before(v.SoonestExpiry)) {
			v.SoonestExpiry = st.NotAfter
		}
		if st.Issuing {
			v.InFlight++
		}
		if now.Before(st.RetryAt) {
			v.BackingOff++
		}
	}
	return v
}

func hostStates() []HostState {
	return []HostState{StateValid, StateIssuing, StateBackoff, StateExpired, StateFailed}
}
