package certmgr

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
)

// inState runs f with a breaker in a bubble.
func inState(t *testing.T, f func(t *testing.T, b *breaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		drop := func(context.Context, audit.Event) {}
		queue := &auditqueue.Queue{Hook: func() func(context.Context, audit.Event) { return drop }, Now: time.Now}
		f(t, newBreaker("https://ca.example/directory", queue, time.Now))
	})
}

var errDown = errors.New("down")

// open is the failure of a host because of what all hosts need.
func open() evidence { return evidence{host: "a.example.com", what: troubleCA, cause: errDown} }

// untilDue waits until the breaker may be tried again.
func untilDue(b *breaker) { time.Sleep(time.Until(b.state().wait.Until)) }

func mustAllow(t *testing.T, b *breaker) {
	t.Helper()
	if one, err := b.allow("a.example.com"); err != nil || !one {
		t.Fatalf("allow: %v, %v, want that an order may follow", one, err)
	}
}

func mustRefuse(t *testing.T, b *breaker) {
	t.Helper()
	if _, err := b.allow("b.example.com"); !errors.Is(err, ErrCAUnavailable) {
		t.Fatalf("allow: %v, want a refusal", err)
	}
	if err := b.check("b.example.com", false); !errors.Is(err, ErrCAUnavailable) {
		t.Fatalf("check: %v, want a refusal", err)
	}
}

// Only one at a time probes or orders.
func TestBreakerAllowsOne(t *testing.T) {
	inState(t, func(t *testing.T, b *breaker) {
		if one, err := b.allow("a.example.com"); one || err != nil {
			t.Fatalf("a CA in use: %v, %v", one, err)
		}
		b.done(open())
		mustRefuse(t, b)
		untilDue(b)
		mustAllow(t, b)
		mustRefuse(t, b)
		if !b.needsProbe() {
			t.Error("the order needs no probe")
		}
		if err := b.probed("a.example.com", 0, errDown); !errors.Is(err, ErrCAUnavailable) {
			t.Errorf("after a probe that failed: %v", err)
		}
		mustRefuse(t, b)
		untilDue(b)
		mustAllow(t, b)
		b.giveBack()
		mustAllow(t, b)
		whole, back := b.done(evidence{host: "a.example.com", one: true})
		if whole || !back {
			t.Errorf("after a success: whole %v, back %v", whole, back)
		}
		if one, err := b.allow("a.example.com"); one || err != nil {
			t.Errorf("after a success: %v, %v", one, err)
		}
	})
}

// A probe that has passed lets one order through, whoever makes it, and for a
// while only.
func TestProbeThatPassedIsForOneOrder(t *testing.T) {
	const attended = true
	inState(t, func(t *testing.T, b *breaker) {
		b.done(open())
		untilDue(b)
		if err := b.check("a.example.com", attended); err == nil {
			t.Error("a visitor goes ahead of the prober")
		}
		mustAllow(t, b)
		b.passOn()
		if err := b.check("a.example.com", attended); err != nil {
			t.Errorf("after a probe that passed: %v", err)
		}
		mustAllow(t, b)
		if b.needsProbe() {
			t.Error("another probe is needed at once")
		}
		b.done(evidence{host: "a.example.com", one: true, what: troubleNone, cause: errDown}) // its preflight failed, say
		mustAllow(t, b)
		if b.needsProbe() {
			t.Error("another probe is needed although no order was made")
		}
		b.giveBack()
		time.Sleep(passedFor)
		mustAllow(t, b)
		if !b.needsProbe() {
			t.Error("no probe is needed after a minute")
		}
		b.passOn()
		mustAllow(t, b)
		b.done(evidence{host: "a.example.com", one: true, what: troubleOwn, cause: errDown})
		mustRefuse(t, b)
		untilDue(b)
		if mustAllow(t, b); !b.needsProbe() {
			t.Error("the probe stands for another order")
		}
	})
}

// Orders that fail are repeated after 5, 15, 45 and 60 s, and after 15 min
// every 5 min. Probes in between do not change that.
func TestLadderOfOrders(t *testing.T) {
	for _, probes := range []int{0, 3} {
		t.Run(fmt.Sprint(probes), func(t *testing.T) {
			inState(t, func(t *testing.T, b *breaker) {
				begin := time.Now()
				b.done(open())
				for _, want := range []time.Duration{5, 15, 45, 60, 60, 60, 60} {
					if wait, want := time.Until(b.state().wait.Until), want*time.Second; wait < want*9/10 || wait > want*11/10 {
						t.Errorf("the next order follows in %v, want %v and 10%%", wait, want)
					}
					for range probes {
						untilDue(b)
						mustAllow(t, b)
						b.probed("a.example.com", 0, errDown)
					}
					untilDue(b)
					mustAllow(t, b)
					b.done(evidence{host: "a.example.com", one: true, what: troubleOwn, cause: errDown})
				}
				time.Sleep(time.Until(begin.Add(15 * time.Minute)))
				mustAllow(t, b)
				b.done(evidence{host: "a.example.com", one: true, what: troubleOwn, cause: errDown})
				if wait := time.Until(b.state().wait.Until); wait < 5*time.Minute*9/10 || wait > 5*time.Minute*11/10 {
					t.Errorf("after 15 min the next order follows in %v, want 5 min and 10%%", wait)
				}
			})
		})
	}
}

// Failures of 3 domains, or of 5 hosts, within a minute are the CA's. Rate
// limits of the hosts of one domain are not.
func TestManyFailuresAreTheCAs(t *testing.T) {
	tests := []struct {
		name  string
		hosts []string
		what  trouble
		every time.Duration
		open  bool
	}{
		{"2 domains", []string{"a.one.com", "a.two.com", "b.two.com"}, troubleOwn, time.Second, false},
		{"3 domains", []string{"a.one.com", "a.two.com", "a.three.com"}, troubleOwn, time.Second, true},
		{"3 domains, slowly", []string{"a.one.com", "a.two.com", "a.three.com"}, troubleOwn, time.Minute, false},
		{"5 hosts", []string{"a.one.com", "b.one.com", "c.one.com", "d.one.com", "e.one.com"}, troubleOwn, time.Second, true},
		{"1 host", []string{"a.one.com", "a.one.com", "a.one.com", "a.one.com", "a.one.com"}, troubleOwn, time.Second, false},
		{"5 hosts that are limited", []string{"a.one.com", "b.one.com", "c.one.com", "d.one.com", "e.one.com"}, troubleLimit, time.Second, false},
		{"3 domains that are limited", []string{"a.one.com", "a.two.com", "a.three.com"}, troubleLimit, time.Second, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inState(t, func(t *testing.T, b *breaker) {
				whole := false
				for _, host := range tt.hosts {
					whole, _ = b.done(evidence{host: host, what: tt.what, cause: errDown})
					time.Sleep(tt.every)
				}
				if isOpen := b.state().failures > 0; whole != tt.open || isOpen != tt.open {
					t.Errorf("the CA's failure: %v, open: %v, want %v", whole, isOpen, tt.open)
				}
			})
		})
	}
}

// Who waits under a name that a stranger made up makes way for a visitor, and so
// does a renewal.
func TestVisitorsStayAmongWaiters(t *testing.T) {
	for _, other := range []issueRequest{
		{priority: untrustedVisitor, grant: grant{trust: untrusted}},
		{priority: background},
	} {
		w := newWaiting()
		w.waiters.Max = 2
		add := func(host string, req issueRequest) {
			req.sub = newSubject(0, "ca", host)
			w.add(req, time.Now())
		}
		add("other", other)
		add("first", issueRequest{priority: withVisitor})
		add("second", issueRequest{priority: withVisitor})
		for range 2 {
			if got, ok := w.next(); !ok || got.req.sub.host() == "other" {
				t.Errorf("with priority %d: a visitor made way", other.priority)
			}
		}
	}
}

// Waiters have their turns in the order in which they came, visitors first, and
// are forgotten when they do not come again.
func TestTurnsOfWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, started := newWaiting(), 0
		w.attend = func() { started++ }
		add := func(host string, p priority) {
			w.add(issueRequest{sub: newSubject(0, "ca", host), priority: p}, time.Now())
			time.Sleep(time.Second)
		}
		add("renewal", background)
		add("first", withVisitor)
		add("second", withVisitor)
		add("first", withVisitor) // again: it keeps its place
		if started != 1 {
			t.Errorf("%d probers, want 1", started)
		}
		for _, want := range []string{"first", "second", "renewal"} {
			if got, ok := w.next(); !ok || got.req.sub.host() != want {
				t.Errorf("%q is next, want %q", got.req.sub.host(), want)
			}
		}
		if _, ok := w.next(); ok || !w.rest(time.Now(), time.Minute) || w.isAttended() {
			t.Error("somebody is left")
		}
		add("visitor", withVisitor)
		add("renewal", urgentRenewal)
		time.Sleep(minPatience)
		if w.rest(time.Now(), minPatience) {
			t.Error("the renewal is forgotten")
		}
		if got, _ := w.next(); got.req.sub.host() != "renewal" {
			t.Errorf("%q is next: the visitor did not come again", got.req.sub.host())
		}
		for i := range 10 * maxWaiters {
			add(fmt.Sprint(i), untrustedVisitor)
		}
		if n := w.waiters.Len(); n != maxWaiters {
			t.Errorf("%d waiters are remembered, want %d", n, maxWaiters)
		}
		if started != 2 {
			t.Errorf("%d probers, want one after the other", started)
		}
	})
}
