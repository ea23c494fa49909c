package auditqueue

import (
	"slices"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/capped"
)

const (
	// maxOfHost is how many events are kept of each host.
	maxOfHost = 5

	// maxHosts is of how many hosts events are kept, and maxStrangersHosts of
	// how many among them that strangers may have made up. An event has some
	// 600 bytes, and its error up to 16 KB of a CA's texts, which it shares
	// with the record of the failure.
	maxHosts          = 4096
	maxStrangersHosts = 1024
)

// hostLogs holds the last events of hosts. Queue.mu guards it.
type hostLogs struct {
	hosts   capped.Map[string, *hostLog]
	evicted bool // whether a host has ever made way
}

// hostLog holds the last events of one host.
type hostLog struct {
	events    []audit.Event
	dropped   int  // older ones
	mayLack   bool // a host had made way before: perhaps this one
	strangers bool
	failed    bool // whether one of events is a failure
}

func newHostLogs() hostLogs {
	return hostLogs{hosts: capped.Map[string, *hostLog]{
		Max:      maxHosts,
		IsMinor:  func(l *hostLog) bool { return l.strangers },
		MaxMinor: maxStrangersHosts,
	}}
}

// add adds an event of a host.
func (h *hostLogs) add(e entry) {
	l, known := h.hosts.Get(e.Host)
	if !known {
		l = &hostLog{mayLack: h.evicted}
	}
	l.strangers = e.strangers
	l.add(e.Event)
	if _, dropped := h.hosts.Put(e.Host, l, (*hostLog).isWorthLess); dropped {
		h.evicted = true
	}
}

// add appends an event. Of refused handshakes, which are told again and again,
// it keeps the last one of each result.
func (l *hostLog) add(e audit.Event) {
	if e.Kind == audit.HandshakesRefused {
		l.events = slices.DeleteFunc(l.events, func(old audit.Event) bool { return old.Kind == e.Kind && old.Result == e.Result })
	}
	if len(l.events) == maxOfHost {
		l.events = slices.Delete(l.events, 0, 1)
		l.dropped++
	}
	l.events = append(l.events, e)
	l.failed = slices.ContainsFunc(l.events, audit.Event.IsFailure)
}

// isWorthLess reports whether l makes way before other: hosts without failures
// do first, then those whose last event is older.
func (l *hostLog) isWorthLess(other *hostLog) bool {
	if l.failed != other.failed {
		return other.failed
	}
	return l.events[len(l.events)-1].Seq < other.events[len(other.events)-1].Seq
}

// LastOf returns the last events of a host, oldest first, the number of older
// ones that are no longer kept, and whether there may have been more than
// these.
func (q *Queue) LastOf(host string) (events []audit.Event, dropped int, mayLack bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l, known := q.hosts.hosts.Get(host)
	if !known {
		return nil, 0, q.hosts.evicted
	}
	return slices.Clone(l.events), l.dropped, l.mayLack
}
