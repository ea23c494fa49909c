package certmgr

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// Most tests of this package are scenarios from outside, in package certmgr_test.
// Beyond the public API they need what follows, and nothing else.

// SetClock gives m, which must not be in use yet, a wall clock.
func SetClock(m *Manager, now func() time.Time) { m.clock = now }

// InFull returns what the short error of a refused handshake wraps.
func InFull(err error) error { return inFull(err) }

// Now returns the time by m's clock.
func Now(m *Manager) time.Time { return m.engine.now() }

// ListenerOn is m.Listener on another listener.
func ListenerOn(m *Manager, tcp net.Listener) net.Listener {
	return &listener{config: m.TLSConfig(), tcp: tcp}
}

// InMemory returns how many certificates m holds in memory for host, or "" for all.
func InMemory(m *Manager, host string) int {
	if host == "" {
		n := 0
		for range m.engine.report.memory.all() {
			n++
		}
		return n
	}
	return len(m.engine.report.memory.certificates(host))
}

// Scheduled returns how many certificates m has a renewal planned for.
func Scheduled(m *Manager) int {
	return m.engine.report.schedule.items.Len()
}

// WatchedHosts returns for how many hosts and entries m remembers visits.
func WatchedHosts(m *Manager) int { return m.engine.report.visits.hosts.Len() }

// LimitStrangers sets how many untrusted hosts, and how many that the policy
// allows, m may hold in memory.
func LimitStrangers(m *Manager, most int) {
	m.init()
	m.engine.report.memory.untrusted.Max = most
	m.engine.report.memory.byPolicy.Max = most
}

// Load has m read the certificate of a host from its Cache, as renewal does.
func Load(ctx context.Context, m *Manager, host string, alg bundle.Algorithm) error {
	m.init()
	s := m.engine.server
	_, err := s.loader.read(ctx, s.subject(host, alg), grant{trust: listed}, quietly)
	return err
}

// TakeOut takes the certificate of a cache entry out of service, as Revoke does once
// the CA has revoked it.
func TakeOut(m *Manager, host string, entry []byte) error {
	s := m.engine.operator
	cert, err := certificateFromBundle(s.subject(host, bundle.ECDSA), entry, time.Now())
	if err == nil {
		s.takeOut(cert, false)
	}
	return err
}

// CheckHost makes the preflight of a host, and no more.
func CheckHost(ctx context.Context, m *Manager, host string) error {
	m.init()
	return m.engine.operator.issuer.orders.checker.Check(ctx, host, func(func(context.Context) bool) {}).Err
}

// OrderBudgetKey returns the key of the entry in which m keeps its order budget.
func OrderBudgetKey(m *Manager) string {
	m.init()
	return m.engine.operator.issuer.orders.budget.cacheKey()
}

// ForgetAccount has m look its account up again.
func ForgetAccount(ctx context.Context, m *Manager) error {
	accounts := m.engine.operator.issuer.orders.accounts
	acc, err := accounts.Get(ctx)
	if err == nil {
		accounts.Forget(acc)
	}
	return err
}

// BeginReading begins a reading of a's file and returns its number.
func BeginReading(a *Allowlist) uint64 {
	a.list.changing.Lock()
	defer a.list.changing.Unlock()
	return a.list.file.Begin(nil).Number
}

// HangFile is what happens when a look at a's file does not come back.
func HangFile(a *Allowlist, cause error) { a.list.hangs(cause) }

// Kept returns what m keeps of failed issuances for the next attempt.
func Kept(m *Manager) map[string]any {
	kept := make(map[string]any)
	unfinished := m.engine.operator.issuer.orders.unfinished
	unfinished.mu.Lock()
	for sub, o := range unfinished.orders.All() {
		kept[fmt.Sprint("the unfinished order of ", sub)] = o
	}
	unfinished.mu.Unlock()
	m.engine.operator.health.failures.all(func(host string, rec *failure, both bool) {
		kept[fmt.Sprint("the record of ", host, both)] = rec
	})
	return kept
}

// Leftovers says what m, which is closed, still holds for hosts.
func Leftovers(m *Manager, hosts ...string) (left []string) {
	is := m.engine.operator.issuer
	if n := is.unlisted.untrusted.Load(); n != 0 {
		left = append(left, fmt.Sprintf("%d places of strangers", n))
	}
	if used, waiting := is.slots.Load(); used+waiting != 0 {
		left = append(left, fmt.Sprintf("%d slots, and %d that wait for one", used, waiting))
	}
	if m.engine.report.health.breaker.state().trying {
		left = append(left, "the probe of the CA")
	}
	for _, host := range hosts {
		if !LockIsFree(m, host) {
			left = append(left, "the lock of "+host)
		}
	}
	return left
}

// LockIsFree reports whether a host's lock is free.
func LockIsFree(m *Manager, host string) bool {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	unlock, err := m.engine.operator.issuer.locks.lock(now, []string{host})
	if err == nil {
		unlock()
	}
	return err == nil
}

// HoldAttempt is an attempt for a host that does not return until it is released.
func HoldAttempt(ctx context.Context, m *Manager, host string, released <-chan struct{}) {
	sub := m.engine.subject(host, bundle.ECDSA)
	flight.CallOut(ctx, m.engine.operator.issuer.orders.calls, sub.String(), func(context.Context) (struct{}, error) {
		<-released
		return struct{}{}, nil
	})
}

// DoNotKeepVisits has m, which must not be in use yet, leave visits out of its Cache.
// Nothing waits for what the Cache has of them.
func DoNotKeepVisits(m *Manager) {
	m.init()
	m.engine.report.visits.began = m.engine.report.visits.setRestored
}

// DeliverMadeUp brings certificates of n untrusted hosts into m's memory and has
// Issued called for them.
func DeliverMadeUp(m *Manager, n int) {
	m.init()
	s := m.engine.server
	for i := range n {
		c := &certificate{
			subject:  s.subject(fmt.Sprintf("h%d.example.org", i), bundle.ECDSA),
			notAfter: s.now().Add(time.Hour),
			served:   served{leaf: new(x509.Certificate), expires: s.now().Add(time.Hour).Unix()},
		}
		s.memory.publish(c, grant{trust: untrusted}, s.now(), alwaysListed)
		s.loader.keeper.deliver(c)
	}
}

// WaitingDeliveries returns for how many certificates m is to call Issued.
func WaitingDeliveries(m *Manager) int {
	d := m.engine.server.loader.keeper.(*service).deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}
