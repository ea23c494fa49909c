package certmgr

import (
	"time"
)

// Metrics is what a Manager has counted since it was made, and how it stands
// now, in numbers alone: nothing in it grows with what strangers ask for.
// Counters never go down.
type Metrics struct {
	Time time.Time // when it was taken

	Handshakes        map[HandshakeResult]uint64 // each result, those that did not occur included
	Issued            uint64                     // certificates issued
	Failed            map[Stage]uint64           // issuances that failed, by the stage where they did; each stage
	TimeToCertificate Histogram                  // from the start of an issuance to its certificate; those that succeeded
	CARequests        []RequestCount             // by endpoint and status, in that order
	EventsDropped     uint64                     // events lost because Manager.Audit is too slow

	Hosts         map[HostState]int // hosts and key types by their state; each state
	InFlight      int               // issuances in flight: those that hold a slot and those that wait for one
	Queued        int               // of these, the ones that wait for a slot
	Waiting       int               // handshakes that wait
	BackingOff    int               // hosts whose next attempt is not due yet, those with a valid certificate included
	Late          int               // valid certificates whose renewal fails
	SoonestExpiry time.Time         // of the certificates in memory that are valid; zero: there are none
	CAUnavailable time.Time         // the CA is not tried before; zero: it is in use
}

// RequestCount counts requests to the CA.
type RequestCount struct {
	Endpoint string // the resource: "directory", "newOrder", ...; a closed set
	Status   int    // HTTP status; 0: no reply came
	Count    uint64
}

// Histogram counts durations in classes. Counts[i] is how many were at most
// Bounds[i] and more than the bound before; the last of Counts, which has one
// more element than Bounds, counts the rest.
type Histogram struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration // of all durations
}

// Count returns how many durations there were.
func (h Histogram) Count() uint64 {
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
	s := m.stages
	now := s.now()
	v := Metrics{Time: now, Handshakes: s.handshakes.all(), EventsDropped: s.audit.losses(), Waiting: s.waiters.waiting(),
		Failed: make(map[Stage]uint64), Hosts: make(map[HostState]int)}
	s.issuances.read(&v)
	_, v.Queued = s.issuer.slots.load()
	v.CAUnavailable, _, _ = s.issuer.breaker.state()
	for _, state := range hostStates() {
		v.Hosts[state] = 0
	}
	hosts, late := s.hostStatuses(now)
	v.Late = late
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
