package certmgr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/bundle"
)

// condition is a generated state of a host and key type: what a Manager may
// know of it at the same time.
type condition struct {
	valid, expired, unneeded  bool
	late                      bool // the last renewal failed, for a reason that is not the host's
	failure                   HostState
	due                       bool // the next attempt after the failure
	inFlight, dns, secondType bool
}

// generate returns a random condition that is possible.
func generate(r *rand.Rand) condition {
	flip := func() bool { return r.IntN(2) == 0 }
	var c condition
	switch r.IntN(3) {
	case 0:
		c.valid = true
	case 1:
		c.expired = true
	}
	has := c.valid || c.expired
	c.unneeded, c.late = has && r.IntN(4) == 0, has && flip()
	if flip() {
		c.failure = []HostState{StateBackoff, StatePaused, StateRejected}[r.IntN(3)]
		c.due = flip()
	}
	c.inFlight, c.dns = flip(), r.IntN(4) == 0
	c.secondType = flip()
	return c
}

// want returns the state and whether it counts as failing and late, from the
// definitions in the documentation and not from the code.
func (c condition) want() (state HostState, failing, late bool) {
	hasFailed := c.failure != "" || c.dns
	switch {
	case c.valid:
		return StateValid, false, !c.unneeded && (c.late || hasFailed)
	case c.expired:
		return StateExpired, true, false
	case c.inFlight:
		return StateIssuing, hasFailed, false
	case c.dns:
		return StateWaitingForDNS, true, false
	case c.due:
		return StateFailed, true, false
	}
	return c.failure, true, false
}

// exists reports whether there is anything to be told.
func (c condition) exists() bool {
	if c.expired && c.unneeded { // about to be taken out of service
		c.expired = false
	}
	return c.valid || c.expired || c.inFlight || c.dns || c.failure != ""
}

// place makes m know of a host in a condition.
func (c condition) place(m *Manager, sub subject, hold <-chan struct{}) error {
	e, now := m.engine, m.engine.now()
	if c.valid || c.expired {
		cert := &certificate{
			served:    served{leaf: &x509.Certificate{SerialNumber: big.NewInt(1)}, alg: sub.alg},
			subject:   sub,
			notBefore: now.Add(-60 * 24 * time.Hour),
			notAfter:  now.Add(30 * 24 * time.Hour),
		}
		if c.expired {
			cert.notAfter = now.Add(-time.Hour)
		}
		cert.expires = cert.notAfter.Unix()
		e.report.memory.publish(cert, grant{trust: listed}, now, alwaysListed)
		s := e.report.schedule
		s.mu.Lock()
		it := s.item(sub)
		it.unneeded = c.unneeded
		if c.late {
			it.late.Failed(cert.notAfter, errors.New("the CA is not available"), now.Add(-2*time.Hour))
		}
		s.setRenew(it, agendaRenew, now.Add(100*time.Hour))
		s.mu.Unlock()
	}
	failed := &IssuanceError{
		Host:     sub.host(),
		KeyType:  sub.alg.String(),
		Stage:    audit.StageOrder,
		Time:     now.Add(-time.Hour),
		RetryAt:  now.Add(time.Hour),
		Err:      errors.New("no"),
		Attempts: 1,
		State:    c.failure,
	}
	if c.due {
		failed.RetryAt = now.Add(-time.Minute)
	}
	if c.failure != "" {
		e.report.health.failures.put(sub, &failure{err: failed, since: now.Add(-30 * 24 * time.Hour), trust: listed}, now)
	}
	if c.dns {
		waits := *failed
		waits.State, waits.Stage = StateWaitingForDNS, audit.StagePreflight
		d := e.report.health.dns
		d.mu.Lock()
		d.hosts[sub.host()] = &dnsWait{sub: sub, since: now.Add(-time.Hour), err: &waits}
		d.mu.Unlock()
	}
	if !c.inFlight {
		return nil
	}
	req := issueRequest{sub: sub, grant: grant{trust: listed}}
	_, err := e.report.issuer.issues.StartIf(sub, nil, newIssuance(req, now), func(context.Context) (*certificate, error) {
		<-hold
		return nil, errors.New("over")
	})
	return err
}

// Whatever is known of a host at the same time, its state follows the
// documentation, and Snapshot and Metrics count it so. An expired host is
// expired since its certificate ended, during attempts and between them.
func TestConditionsAreAsDefined(t *testing.T) {
	for seed := range uint64(40) {
		testConditions(t, seed)
	}
}

func testConditions(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	all := make(map[subject]condition)
	var names []string
	for i := range 12 {
		host := fmt.Sprintf("h%d.example.com", i)
		names = append(names, host)
		c := generate(r)
		all[newSubject(bundle.ECDSA, "https://ca.example/dir", host)] = c
		if c.secondType {
			other := generate(r)
			other.dns, other.failure, other.due = false, "", false // these are the host's
			all[newSubject(bundle.RSA, "https://ca.example/dir", host)] = other
		}
	}
	m := &Manager{Hosts: MustAllowlist(names...), Preflight: preflight.Enforce, Audit: func(context.Context, audit.Event) {}}
	m.init()
	hold := make(chan struct{})
	defer m.Close()
	defer close(hold)
	want := HostCounts{Hosts: make(map[HostState]int)}
	for sub, c := range all {
		if err := c.place(m, sub, hold); err != nil {
			t.Fatal(err)
		}
	}
	snap := m.Snapshot()
	found := make(map[statusKey]*HostStatus)
	for i := range snap.Hosts {
		h := &snap.Hosts[i]
		found[statusKey{h.Host, h.KeyType}] = h
	}
	rows := 0
	for sub, c := range all {
		if c.expired && c.unneeded {
			c.expired = false
		}
		if !c.exists() {
			continue
		}
		rows++
		h := found[statusKey{sub.host(), sub.alg.String()}]
		if h == nil && !c.valid && !c.expired && !c.inFlight {
			h = found[statusKey{sub.host(), ""}]
		}
		if h == nil {
			t.Fatalf("seed %d: %s (%+v) is missing", seed, sub, c)
		}
		state, failing, late := c.want()
		want.Hosts[state]++
		if failing {
			want.HostsFailing++
		}
		if late {
			want.RenewalsLate++
		}
		if h.State != state || h.IsFailing() != failing || h.IsLate() != late {
			t.Errorf("seed %d: %+v is %s, failing %v, late %v; want %s, %v, %v", seed, c, h.State, h.IsFailing(), h.IsLate(), state, failing, late)
		}
		if state == StateExpired && !h.StateSince.Equal(h.NotAfter) {
			t.Errorf("seed %d: %+v is expired since %v, want its end %v", seed, c, h.StateSince, h.NotAfter)
		}
		if (failing && c.failure != "" || late) && h.Cause() == nil {
			t.Errorf("seed %d: nobody says why %+v is so", seed, c)
		}
	}
	if rows != len(snap.Hosts) {
		t.Errorf("seed %d: %d rows, want %d", seed, len(snap.Hosts), rows)
	}
	for name, got := range map[string]HostCounts{"Snapshot": snap.Counts(), "Metrics": m.Metrics().HostCounts} {
		if got.HostsFailing != want.HostsFailing || got.RenewalsLate != want.RenewalsLate {
			t.Errorf("seed %d: %s counts %d failing and %d late, want %d and %d", seed, name, got.HostsFailing, got.RenewalsLate,
				want.HostsFailing, want.RenewalsLate)
		}
		for state, n := range got.Hosts {
			if n != want.Hosts[state] {
				t.Errorf("seed %d: %s counts %d %s, want %d", seed, name, n, state, want.Hosts[state])
			}
		}
	}
}

// The events of a host are found by its name.
func TestHostEvents(t *testing.T) {
	m := &Manager{Hosts: MustAllowlist("a.example.com"), Audit: func(context.Context, audit.Event) {}}
	m.init()
	defer m.Close()
	for range 7 {
		m.engine.audit.Emit(audit.Event{Kind: audit.IssuanceStarted, Host: "a.example.com"})
	}
	got := m.HostEvents("a.example.com")
	if len(got.Events) != 5 || got.Dropped < 2 || got.MayLack || got.Events[0].Seq > got.Events[4].Seq {
		t.Errorf("%d events, %d dropped, may lack %v", len(got.Events), got.Dropped, got.MayLack)
	}
	if got := m.HostEvents("b.example.com"); len(got.Events) != 0 || got.Dropped != 0 {
		t.Errorf("a host without events has %+v", got)
	}
}
