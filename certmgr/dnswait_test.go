package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// probes notes when names are looked up.
type probes struct {
	*internet
	began time.Time

	mu sync.Mutex
	at []time.Duration
}

func (p *probes) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	p.mu.Lock()
	p.at = append(p.at, time.Since(p.began))
	p.mu.Unlock()
	return p.internet.LookupNetIP(ctx, network, host)
}

// take returns when names were looked up, and forgets it.
func (p *probes) take() []time.Duration {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.at
	p.at = nil
	return at
}

// waitingForDNS has a.example.com lead to 192.0.2.7, where nothing answers.
func (w *world) waitingForDNS() *probes {
	p := &probes{internet: w.preflight(preflight.Enforce), began: time.Now()}
	w.m.PreflightResolver = p
	p.name("a.example.com", "192.0.2.7")
	return p
}

func (w *world) leadsHere(p *probes) { p.name("a.example.com", "192.0.2.1") }

// state returns the status of a.example.com.
func (w *world) state() certmgr.HostStatus {
	w.t.Helper()
	for _, st := range w.m.Snapshot().Hosts {
		if st.Host == "a.example.com" {
			return st
		}
	}
	w.t.Fatal("no a.example.com")
	return certmgr.HostStatus{}
}

// A name that does not lead here is probed after 15 s, then at 1.5 times the wait up to
// 5 min, and after an hour hourly. It is ordered at the first probe that sees it.
func TestNameThatLeadsElsewhereIsProbedUntilItLeadsHere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		_, err := w.get("a.example.com")
		var e *certmgr.IssuanceError
		if !errors.As(err, &e) || e.State != certmgr.StateWaitingForDNS || e.Stage != audit.StagePreflight || !errors.Is(err, certmgr.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
		if !e.RetryAt.Equal(time.Now().Add(15 * time.Second)) {
			t.Errorf("next probe %v", e.RetryAt)
		}
		time.Sleep(5 * time.Hour)
		first := e.Time.Sub(p.began)
		want := []time.Duration{first}
		wait := 15 * time.Second
		for at := first; at < 5*time.Hour; {
			if at-first >= time.Hour {
				wait = time.Hour
			}
			if at += wait; at <= 5*time.Hour {
				want = append(want, at)
			}
			wait = min(wait*3/2, 5*time.Minute)
		}
		if got := p.take(); !slices.Equal(got, want) {
			t.Fatalf("probes at %v\nwant      %v", got, want)
		}
		st := w.state()
		if st.State != certmgr.StateWaitingForDNS || !st.StateSince.Truncate(time.Second).Equal(p.began) || !st.RetryAt.After(time.Now()) || st.KeyType != "" ||
			!strings.Contains(st.Failure.Error(), "192.0.2.7") {
			t.Errorf("got %+v", st)
		}
		w.wantOrders("a.example.com", 0)
		w.leadsHere(p)
		time.Sleep(time.Hour)
		if n := len(p.take()); n != 1 {
			t.Errorf("%d probes", n)
		}
		w.wantOrders("a.example.com", 1)
		if st := w.state(); st.State != certmgr.StateValid || st.Failure != nil {
			t.Errorf("got %+v", st)
		}
	})
}

// What the page and the log say of a wait: that it began and where the name leads, that
// it leads elsewhere now, and its end. No probe is an event, nor a failure.
func TestEventsOfAWaitForDNS(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		time.Sleep(10 * day)
		p.name("a.example.com", "192.0.2.9", "192.0.2.8")
		time.Sleep(10 * day)
		p.name("a.example.com", "192.0.2.8", "192.0.2.9") // the same, in another order
		time.Sleep(10 * day)
		waits := w.events.of(audit.WaitingForDNS)
		if len(waits) != 2 || !strings.Contains(waits[0].Err.Error(), "192.0.2.7") || !strings.Contains(waits[1].Err.Error(), "192.0.2.8") {
			t.Fatalf("%d events: %v", len(waits), waits)
		}
		if e := waits[0]; e.Host != "a.example.com" || e.Decision != audit.Refused || e.State != "waiting_for_dns" || e.Attempt == "" || e.RetryAt.IsZero() ||
			e.Level().String() != "WARN" || !errors.Is(e.Err, certmgr.ErrUnreachable) {
			t.Errorf("got %v", e)
		}
		w.leadsHere(p)
		time.Sleep(2 * time.Hour)
		ended := w.events.of(audit.DNSWaitEnded)
		if len(ended) != 1 || ended[0].Host != "a.example.com" || ended[0].Duration < 30*day {
			t.Errorf("got %v", ended)
		}
		for kind, most := range map[audit.Kind]int{audit.IssuanceFailed: 0, audit.HostUnreachable: 1, audit.IssuanceStarted: 2, audit.CertificateIssued: 1, audit.CAUnavailable: 0} {
			if n := len(w.events.of(kind)); n > most {
				t.Errorf("%d events %s", n, kind)
			}
		}
	})
}

// A name whose addresses change at every look is told a few times, and then once a day.
func TestNameThatLeadsElsewhereAtEveryLookDoesNotFloodTheLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		n := 0
		p.resolve(func(context.Context, string) ([]netip.Addr, error) {
			n++
			return addrs(fmt.Sprintf("198.51.100.%d", n%200+1)), nil
		})
		w.get("a.example.com")
		time.Sleep(10 * day)
		if got := len(w.events.of(audit.WaitingForDNS)); got < 10 || got > 16 {
			t.Errorf("%d events in 10 days", got)
		}
	})
}

// Visitors are refused at once and told why. They bring the next probe forward, but not
// within 15 s of the last one.
func TestVisitorBringsTheProbeForward(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.waitingForDNS()
		w.get("a.example.com")
		time.Sleep(10 * time.Minute)
		p.take()
		at := time.Since(p.began)
		w.wantErr("a.example.com", certmgr.ErrBackoff) // at once
		if got := p.take(); len(got) != 1 || got[0] != at {
			t.Errorf("probes at %v, want %v", got, at)
		}
		time.Sleep(5 * time.Second)
		for range 100 { // as soon as may be
			err := w.wantErr("a.example.com", certmgr.ErrBackoff)
			if !errors.Is(err, certmgr.ErrUnreachable) || !strings.Contains(err.Error(), "192.0.2.7") {
				t.Fatalf("got %v", err)
			}
		}
		time.Sleep(time.Minute)
		if got := p.take(); len(got) != 1 || got[0] != at+15*time.Second {
			t.Fatalf("probes at %v, the last one was at %v", got, at)
		}
		for range 600 {
			w.wantErr("a.example.com", certmgr.ErrBackoff)
			time.Sleep(time.Second)
		}
		got := p.take()
		for i := range len(got) - 1 {
			if got[i+1]-got[i] < 15*time.Second {
				t.Errorf("probes at %v and %v", got[i], got[i+1])
			}
		}
		if len(got) < 39 || len(got) > 41 {
			t.Errorf("%d probes in 10 minutes of visits", len(got))
		}
		w.leadsHere(p)
		w.wantErr("a.example.com", certmgr.ErrBackoff)
		time.Sleep(16 * time.Second)
		w.mustGet("a.example.com")
	})
}

// However many names wait, there are 20 probes a second in all, and each has its turn.
// Names that Start has to have probed first are among them.
func TestProbesArePaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		start bool
		names int
	}{{true, 1000}, {false, 100}} {
		inBubble(t, func(t *testing.T, w *world) {
			p := w.waitingForDNS()
			var names []string
			for i := range tt.names {
				names = append(names, fmt.Sprintf("h%d.example.com", i))
			}
			w.m.Hosts = certmgr.MustAllowlist(names...)
			if tt.start {
				w.m.Start(t.Context())
			} else {
				for _, name := range names {
					w.get(name)
				}
				p.take() // each in its own visitor's handshake
			}
			time.Sleep(time.Minute)
			got := p.take()
			for i := range len(got) - 20 {
				if got[i+20]-got[i] < time.Second {
					t.Fatalf("21 probes within %v", got[i+20]-got[i])
				}
			}
			if len(got) < min(2*tt.names, 19*60) {
				t.Errorf("%d probes", len(got))
			}
			if n := w.m.Metrics().Hosts[certmgr.StateWaitingForDNS]; n != tt.names {
				t.Errorf("%d hosts wait", n)
			}
			for _, name := range names[:10] {
				p.name(name, "192.0.2.1")
			}
			time.Sleep(4 * time.Minute)
			if n := w.m.Metrics().Hosts[certmgr.StateValid]; n != 10 {
				t.Errorf("%d hosts are served", n)
			}
		})
	}
}
