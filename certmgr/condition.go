package certmgr

import (
	"math"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// What it means that a host is expired, failing or late is defined in this file
// and nowhere else. The status page, its JSON, the metrics and the alerts of
// package prommetrics count by it, so that no two of them disagree:
//
//	expired  State is StateExpired: the certificate in memory has ended, whether
//	         an attempt is in flight, backs off, or nobody has asked yet
//	failing  HostStatus.IsFailing: visitors are refused, and not for a first
//	         attempt that is still in flight
//	late     HostStatus.IsLate: the valid certificate is served, but could not
//	         be renewed

// HostCounts counts hosts, once for each key type of a certificate in memory.
// Snapshot.Counts makes it, and Metrics has it.
type HostCounts struct {
	Hosts         map[HostState]int // by state; all states
	HostsFailing  int               // those with IsFailing
	RenewalsLate  int               // those with IsLate
	InFlight      int               // issuances in flight, both holding and waiting for a slot
	BackingOff    int               // those with IsBackingOff
	SoonestExpiry time.Time         // of the valid certificates in memory that are to be renewed; zero if there are none

	// LeastLeft is the smallest part of its lifetime that one of these
	// certificates has left, from 0 to 1; 0 if there are none. Unlike an expiry
	// it tells how late a renewal is, whatever the lifetime.
	LeastLeft float64

	// OwnSoonestExpiry is SoonestExpiry of the valid certificates of
	// Manager.Certificates whose place nothing takes.
	OwnSoonestExpiry time.Time
}

// Counts counts the hosts of s. It is safe for concurrent use.
func (s *Snapshot) Counts() HostCounts { return countHosts(s.Hosts, s.Time) }

func countHosts(hosts []HostStatus, now time.Time) HostCounts {
	c := HostCounts{Hosts: make(map[HostState]int)}
	for _, state := range hostStates() {
		c.Hosts[state] = 0
	}
	for i := range hosts {
		h := &hosts[i]
		c.Hosts[h.State]++
		if h.IsFailing() {
			c.HostsFailing++
		}
		if h.IsLate() {
			c.RenewalsLate++
		}
		if h.Issuing {
			c.InFlight++
		}
		if h.IsBackingOff(now) {
			c.BackingOff++
		}
		if h.State == StateValid && h.isRenewed() && (c.SoonestExpiry.IsZero() || h.NotAfter.Before(c.SoonestExpiry)) {
			c.SoonestExpiry = h.NotAfter
		}
		if left := h.left(now); h.State == StateValid && h.isRenewed() && (c.LeastLeft == 0 || left < c.LeastLeft) {
			c.LeastLeft = left
		}
		if h.State == StateValid && h.Source != "" && h.Successor.IsZero() && (c.OwnSoonestExpiry.IsZero() || h.NotAfter.Before(c.OwnSoonestExpiry)) {
			c.OwnSoonestExpiry = h.NotAfter
		}
	}
	return c
}

// left returns the part of its lifetime that a valid certificate has left. It is
// more than 0, and 1 if its dates say nothing.
func (h *HostStatus) left(now time.Time) float64 {
	lifetime := h.NotAfter.Sub(h.NotBefore)
	if lifetime <= 0 {
		return 1
	}
	return max(min(float64(h.NotAfter.Sub(now))/float64(lifetime), 1), math.SmallestNonzeroFloat64)
}

// hostStates returns all states.
func hostStates() []HostState {
	return []HostState{
		StateValid, StateIssuing, StateBackoff, StatePaused, StateRejected, StateWaitingForDNS, StateExpired, StateFailed,
	}
}

// IsFailing reports whether visitors of the host are refused because an attempt
// has failed, the name does not lead here, or the certificate has expired. A
// first attempt that is in flight is not a failure; one after a failure is.
func (h *HostStatus) IsFailing() bool {
	switch h.State {
	case StateValid:
		return false
	case StateIssuing:
		return h.Failure != nil
	}
	return true
}

// IsLate reports whether the certificate is valid, but its last renewal failed
// or was due and could not begin: Cause says why. A certificate that is not to
// be renewed, because no client needs its key type, is never late. One of
// Manager.Certificates is late if it ends soon and nothing takes its place.
func (h *HostStatus) IsLate() bool {
	if h.Source != "" {
		return h.State == StateValid && h.RenewalFailure != nil
	}
	return h.State == StateValid && h.isRenewed() && h.Cause() != nil
}

// IsBackingOff reports whether the host is not tried before RetryAt, which is
// after now, because an attempt has failed. It may have a valid certificate. A
// host that waits for DNS does not back off: it is probed.
func (h *HostStatus) IsBackingOff(now time.Time) bool {
	return h.Failure != nil && h.Failure.State != StateWaitingForDNS && now.Before(h.RetryAt)
}

// Cause returns why the host is failing or late: Failure, or else
// RenewalFailure. It is nil if neither is known, as for a certificate that
// expired while the machine was suspended.
func (h *HostStatus) Cause() error {
	if h.Failure != nil { // a nil *IssuanceError would be an error that is not nil
		return h.Failure
	}
	return h.RenewalFailure
}

// isRenewed reports whether the certificate in memory is to be renewed.
func (h *HostStatus) isRenewed() bool {
	return h.RenewalCause != RenewalCauseUnneeded && h.Source == ""
}

// hasCertificate reports whether there is a certificate in memory, which then
// decides the state, whatever becomes of attempts.
func (h *HostStatus) hasCertificate() bool { return h.State == StateValid || h.State == StateExpired }

// HostEvents holds what is kept of the events of one host.
type HostEvents struct {
	// Events are the last 5, oldest first. Of handshakes that are refused with
	// the same result only the last event is among them.
	Events []audit.Event

	// Dropped is the number of older events that are no longer kept.
	Dropped int

	// MayLack reports whether there may have been even older events: those of
	// some 4,000 hosts are kept, and of 1,000 among them whose names a stranger
	// may have made up.
	MayLack bool
}

// HostEvents returns the last events of a host, whose name is in the form of a
// Snapshot. The result is empty for a host without events. It is safe for
// concurrent use and does no I/O.
func (m *Manager) HostEvents(host string) HostEvents {
	m.init()
	events, dropped, mayLack := m.engine.audit.LastOf(host)
	return HostEvents{Events: events, Dropped: dropped, MayLack: mayLack}
}
