package auditqueue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

func quiet() *Queue {
	return &Queue{
		Now:         time.Now,
		Hook:        func() func(context.Context, audit.Event) { return func(context.Context, audit.Event) {} },
		IsStrangers: func(e audit.Event) bool { return e.SNI == "made up" },
	}
}

// The last five events of a host are kept, and how many there were before.
func TestLastEventsOfAHost(t *testing.T) {
	q := quiet()
	for i := range 8 {
		q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: "a.example", Count: i})
		q.Emit(audit.Event{Kind: audit.CertificateIssued, Host: "b.example"})
	}
	events, dropped, mayLack := q.LastOf("a.example")
	if len(events) != 5 || dropped != 3 || mayLack {
		t.Fatalf("%d events, %d dropped, may lack %v; want 5, 3, false", len(events), dropped, mayLack)
	}
	for i, e := range events {
		if e.Host != "a.example" || e.Count != 3+i {
			t.Errorf("event %d is %v of %s", i, e.Count, e.Host)
		}
	}
	events[0].Host = "x" // it is a copy
	if again, _, _ := q.LastOf("a.example"); again[0].Host != "a.example" {
		t.Error("a caller changed what is kept")
	}
	if events, dropped, _ := q.LastOf("nobody.example"); len(events) != 0 || dropped != 0 {
		t.Errorf("a host without events has %d and %d dropped", len(events), dropped)
	}
}

// Handshakes that are refused again and again do not displace why.
func TestRefusedHandshakesKeepOnePlaceForEachResult(t *testing.T) {
	q := quiet()
	q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: "a.example"})
	for i := range 50 {
		q.Emit(audit.Event{Kind: audit.HandshakesRefused, Host: "a.example", Result: audit.ResultBackoff, Count: i})
		q.Emit(audit.Event{Kind: audit.HandshakesRefused, Host: "a.example", Result: audit.ResultInFlight, Count: i})
	}
	events, dropped, _ := q.LastOf("a.example")
	if len(events) != 3 || dropped != 0 || events[0].Kind != audit.IssuanceFailed || events[1].Count != 49 || events[2].Count != 49 {
		t.Errorf("%d dropped, kept %v", dropped, events)
	}
}

// However many hosts there are, and however many strangers make up, what is
// kept has a bound. Hosts that fail stay longest, and strangers displace only
// each other.
func TestHostsWithEventsAreBounded(t *testing.T) {
	q := quiet()
	const failing = 1000
	for i := range failing {
		q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: fmt.Sprintf("failing-%d.example", i)})
	}
	for i := range 6_000 {
		q.Emit(audit.Event{Kind: audit.CertificateIssued, Host: fmt.Sprintf("fine-%d.example", i)})
		q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: fmt.Sprintf("stranger-%d.example", i), SNI: "made up"})
	}
	if n, minor := q.hosts.hosts.Len(), q.hosts.hosts.Minor(); n > maxHosts+maxStrangersHosts || minor > maxStrangersHosts {
		t.Errorf("events of %d hosts are kept, %d of them made up", n, minor)
	}
	kept := 0
	for i := range failing {
		if events, _, _ := q.LastOf(fmt.Sprintf("failing-%d.example", i)); len(events) == 1 {
			kept++
		}
	}
	if kept < failing*99/100 { // which makes way is a matter of a sample
		t.Errorf("the events of %d of %d failing hosts are kept", kept, failing)
	}
	if events, _, mayLack := q.LastOf("fine-0.example"); len(events) == 0 && !mayLack {
		t.Error("a host that made way is said to have had no events")
	}
	q.Emit(audit.Event{Kind: audit.CertificateIssued, Host: "new.example"})
	if _, _, mayLack := q.LastOf("new.example"); !mayLack {
		t.Error("a new host may have been here before, and that is not said")
	}
}
