package certmgr_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

const (
	firstProbe    = 15 * time.Second
	mostProbe     = 5 * time.Minute
	probeRarely   = time.Hour
	letOthersLook = 5 * time.Second
)

// A lookout is a machine that lets names wait for DNS, with a resolver of its own.
type lookout struct {
	*machine
	*probes
}

// lookout adds a machine for host, which leads elsewhere by its resolver.
func (s *site) lookout(host string) lookout {
	m := s.machine(host)
	n := &internet{names: map[string][]netip.Addr{host: addrs("192.0.2.7")}, ports: make(map[string]func(net.Conn))}
	s.t.Cleanup(n.served.Wait)
	n.listen("192.0.2.1:443", serveTLS(m.TLSConfig(), nil))
	l := lookout{m, &probes{internet: n, began: time.Now()}}
	m.Preflight, m.PreflightResolver, m.PreflightDial = preflight.Enforce, l.probes, n.dial
	return l
}

// leadsHere has the resolvers of machines say so.
func leadsHere(host string, all ...lookout) {
	for _, l := range all {
		l.internet.name(host, "192.0.2.1")
	}
}

// status returns the status of the machine's host, or none while there is nothing to
// tell.
func (l lookout) status() (st certmgr.HostStatus) {
	for _, st = range l.Snapshot().Hosts {
	}
	return st
}

// wantWaiting checks that a visitor is refused because the host waits for DNS, and
// returns the error.
func (l lookout) wantWaiting(t *testing.T, host string) *certmgr.IssuanceError {
	t.Helper()
	synctest.Wait() // the lock of the machine before is free, and its record written
	_, err := l.visit(host)
	e, ok := errors.AsType[*certmgr.IssuanceError](err)
	if !ok || e.State != certmgr.StateWaitingForDNS || !errors.Is(err, certmgr.ErrUnreachable) || !strings.Contains(err.Error(), "192.0.2.7") {
		t.Fatalf("%s: got %v", l.name, err)
	}
	return e
}

// The machines of a fleet look at a host that waits for DNS about as often as one
// would. Whoever finds that it leads here orders, once.
func TestFleetSharesTheWaitForDNS(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string) (net.Conn, error){
		"refused at once": nil,
		"no answer":       blackhole, // a look takes as long as it can
	} {
		t.Run(name, func(t *testing.T) { atSite(t, func(t *testing.T, s *site) { testSharedWait(t, s, dial) }) })
	}
}

func testSharedWait(t *testing.T, s *site, dial func(context.Context, string) (net.Conn, error)) {
	const host = "a.example.com"
	all := []lookout{s.lookout(host), s.lookout(host), s.lookout(host)}
	for _, l := range all {
		l.dialBy(dial)
	}
	all[0].wantWaiting(t, host)
	for _, l := range all[1:] {
		e := l.wantWaiting(t, host)
		if !strings.Contains(e.Error(), "seen by web-1") || time.Until(e.RetryAt) > firstProbe+letOthersLook {
			t.Errorf("%s: got %v, next look %v", l.name, e, time.Until(e.RetryAt))
		}
		if n := len(l.take()); n != 0 {
			t.Errorf("%s has looked %d times", l.name, n)
		}
	}
	time.Sleep(2 * time.Hour)
	total := 0
	for _, l := range all {
		n := len(l.take())
		total += n
		if n < 3 {
			t.Errorf("%s has looked %d times, and the others more often", l.name, n)
		}
		l.wantOne(t, audit.WaitingForDNS)
	}
	if total < 17 || total > 27 { // one machine looks 20 times
		t.Errorf("the machines have looked %d times", total)
	}
	s.wantSame(all)

	for _, l := range all {
		l.dialBy(nil)
	}
	leadsHere(host, all...)
	time.Sleep(time.Hour + time.Minute)
	if valid, n := s.orders(host); valid != 1 || n != 1 {
		t.Errorf("%d orders, %d of them valid", n, valid)
	}
	for _, l := range all {
		s.await(l.machine, host, time.Second)
		l.wantOne(t, audit.DNSWaitEnded)
	}
	if _, err := s.store.Get(t.Context(), host+"+dns"); !errors.Is(err, certmgr.ErrCacheMiss) {
		t.Errorf("the record is still there: %v", err)
	}
}

// wantSame checks that machines show the host to wait since about the same time.
func (s *site) wantSame(all []lookout) {
	s.t.Helper()
	var since time.Time
	for _, l := range all {
		st := l.status()
		if since.IsZero() {
			since = st.StateSince
		}
		if d := st.StateSince.Sub(since).Abs(); st.State != certmgr.StateWaitingForDNS || d > time.Second {
			s.t.Errorf("%s: %s since %v, want since %v", l.name, st.State, st.StateSince, since)
		}
	}
}

// A machine whose resolver is wrong keeps no other one from looking, whatever its
// clock says and however many visitors it has.
func TestFleetLooksInSpiteOfAWrongResolver(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	for _, late := range []time.Duration{0, 20 * time.Minute, 3 * time.Hour} { // when the host leads here
		for _, skew := range []time.Duration{0, -10 * time.Minute, 10 * time.Minute} {
			for _, visits := range []time.Duration{0, 5 * time.Second} {
				t.Run(late.String()+", clock "+skew.String()+", visits "+visits.String(), func(t *testing.T) {
					atSite(t, func(t *testing.T, s *site) {
						wrong, right := s.lookout(host), s.lookout(host)
						wrong.skewed(skew)
						wrong.wantWaiting(t, host)
						right.wantWaiting(t, host)
						began := time.Now()
						for time.Since(began) < late {
							time.Sleep(5 * time.Second)
							if visits > 0 {
								wrong.wantWaiting(t, host)
							}
						}
						leadsHere(host, right)
						began = time.Now()
						most := 2 * (firstProbe + letOthersLook)
						if late > 0 {
							most = 2*mostProbe + time.Minute
						}
						if late > time.Hour {
							most = 2*probeRarely + time.Minute
						}
						for right.status().State != certmgr.StateValid {
							if took := time.Since(began); took > most {
								t.Fatalf("it waits after %v: %+v", took, right.status())
							}
							time.Sleep(5 * time.Second)
							if visits > 0 {
								wrong.visit(host)
							}
						}
						s.await(wrong.machine, host, 10*time.Second)
						if valid, n := s.orders(host); valid != 1 || n != 1 {
							t.Errorf("%d orders, %d of them valid", n, valid)
						}
					})
				})
			}
		}
	}
}

// A machine goes by no record of its own, which may be from before a restart, by none
// that is damaged, old or of another host, and it looks without the store.
func TestFleetMachineLooksItself(t *testing.T) {
	const host = "a.example.com"
	damage := func(old, new string) func(s *site, m *machine) {
		return func(s *site, m *machine) {
			data, err := s.store.Get(s.t.Context(), host+"+dns")
			if err != nil || !strings.Contains(string(data), old) {
				s.t.Fatalf("%s, %v", data, err)
			}
			s.store.Put(s.t.Context(), host+"+dns", []byte(strings.ReplaceAll(string(data), old, new)))
		}
	}
	for name, prepare := range map[string]func(s *site, m *machine){
		"its own":       damage(`"web-1"`, `"web-2"`),
		"damaged":       damage(`{`, ``),
		"of another":    damage(`"a.example.com"`, `"b.example.com"`),
		"without dates": damage(`"next"`, `"none"`),
		"old":           func(*site, *machine) { time.Sleep(16 * time.Second) },
		"unreadable": func(s *site, m *machine) {
			m.setFault(func(ctx context.Context, step string) error {
				if strings.Contains(step, "+dns") {
					return errors.New("out of order")
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				first, second := s.lookout(host), s.lookout(host)
				first.wantWaiting(t, host)
				synctest.Wait() // the record is written
				if name == "old" {
					first.Close()
				}
				prepare(s, second.machine)
				if e := second.wantWaiting(t, host); strings.Contains(e.Error(), "seen by") {
					t.Errorf("got %v", e)
				}
				if n := len(second.take()); n != 1 {
					t.Errorf("it has looked %d times", n)
				}
			})
		})
	}
}

// A visitor has a machine look at once if the last look was long enough ago, also one
// by another machine.
func TestFleetVisitorBringsTheLookForward(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.lookout(host), s.lookout(host)
		first.wantWaiting(t, host)
		time.Sleep(30 * time.Minute)
		for looks := first.take(); len(looks) > 0; looks = first.take() {
			time.Sleep(firstProbe)
		}
		if e := second.wantWaiting(t, host); time.Until(e.RetryAt) < time.Minute {
			t.Fatalf("the next look is in %v", time.Until(e.RetryAt))
		}
		if since := time.Since(second.status().StateSince); since < 30*time.Minute {
			t.Errorf("it waits since %v", since)
		}
		leadsHere(host, second)
		second.visit(host)
		s.await(second.machine, host, 10*time.Second)
		if e := second.wantOne(t, audit.DNSWaitEnded); e.Duration < 30*time.Minute {
			t.Errorf("it waited %v", e.Duration)
		}
	})
}

// What a machine has just seen itself counts, and not the record of another one.
func TestFleetMachineOrdersWhatItSawItself(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.lookout(host), s.lookout(host)
		first.wantWaiting(t, host)
		second.wantWaiting(t, host)
		data, err := s.store.Get(t.Context(), host+"+dns")
		if err != nil {
			t.Fatal(err)
		}
		again := strings.ReplaceAll(string(data), `"web-1"`, `"web-3"`)
		again = strings.ReplaceAll(again, `"2000-`, `"2001-`)
		second.setFault(func(ctx context.Context, step string) error {
			if step == "delete "+host+"+dns" {
				s.store.Put(context.WithoutCancel(ctx), host+"+dns", []byte(again))
				return errors.New("it cannot be deleted")
			}
			return nil
		})
		first.Close()
		leadsHere(host, second)
		time.Sleep(firstProbe + letOthersLook)
		s.await(second.machine, host, 10*time.Second)
	})
}

// balance has the looks of each machine reach the next one, as by a load balancer.
func balance(all ...lookout) {
	for i, l := range all {
		l.listen("192.0.2.1:443", serveTLS(all[(i+1)%len(all)].TLSConfig(), nil))
	}
}

// Looks of several machines at a host do not take each other's answers for wrong ones.
func TestFleetStartsBehindALoadBalancer(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		all := []lookout{s.lookout(host), s.lookout(host), s.lookout(host)}
		leadsHere(host, all...)
		balance(all...)
		var started sync.WaitGroup
		for _, l := range all {
			started.Go(func() {
				if err := l.Start(t.Context()); err != nil {
					t.Errorf("%s: %v", l.name, err)
				}
			})
		}
		started.Wait()
		for _, l := range all {
			if waits := l.events.of(audit.WaitingForDNS); len(waits) != 0 {
				t.Errorf("%s: %v", l.name, waits)
			}
			s.await(l.machine, host, time.Second)
		}
		if valid, n := s.orders(host); valid != 1 || n != 1 {
			t.Errorf("%d orders, %d of them valid", n, valid)
		}
	})
}

// A machine that looks at a host does not replace the answer of one that is ordering
// it, which the CA may look for on any machine.
func TestFleetLooksAtNothingThatIsOrdered(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second, third := s.lookout(host), s.lookout(host), s.lookout(host)
		first.wantWaiting(t, host)
		second.wantWaiting(t, host)
		leadsHere(host, first, second)
		balance(first, second, third)
		// A look by the second machine takes its time, and the CA looks meanwhile.
		second.dialBy(func(ctx context.Context, address string) (net.Conn, error) {
			time.Sleep(2 * time.Second)
			return nil, errors.New("connection reset")
		})
		s.ca.SlowValidation(host, 2*time.Second)
		time.Sleep(time.Until(second.status().RetryAt) - time.Second)
		if err := first.machine.Obtain(t.Context(), host); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if valid, n := s.orders(host); valid != 1 || n != 1 {
			t.Errorf("%d orders, %d of them valid", n, valid)
		}
	})
}
