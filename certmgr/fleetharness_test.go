package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// testLease is the lease of the fleets in tests, and takeover how long it may take
// until another machine has the certificate.
const (
	testLease = 30 * time.Second
	takeover  = testLease + 5*time.Second
)

// A machine is one of a fleet: its connections to the store and to the CA fail as they
// are told.
type machine struct {
	*certmgr.Manager
	name   string
	events *recorder
	store  *sharedStore

	mu     sync.Mutex
	steps  []string // so far: calls of the store, and requests to the CA
	made   []string // those that took place
	at     int      // at which step something happens to it, from 1; 0 means never
	after  bool     // that step takes place
	dead   bool     // nothing takes place any more
	pause  time.Duration
	thawed chan struct{} // closed when the pause is over
	fault  func(ctx context.Context, step string) error
}

// step runs f, unless something has happened to the machine.
func (m *machine) step(ctx context.Context, name string, f func() error) error {
	m.mu.Lock()
	m.steps = append(m.steps, name)
	now := len(m.steps) == m.at
	if now && !m.after {
		m.strike()
	}
	fault := m.fault
	m.mu.Unlock()
	if err := m.await(ctx); err != nil {
		return err
	}
	if fault != nil {
		if err := fault(ctx, name); err != nil {
			return err
		}
	}
	err := f()
	m.mu.Lock()
	m.made = append(m.made, name)
	if now && m.after {
		m.strike()
	}
	m.mu.Unlock()
	if late := m.await(ctx); late != nil {
		return late
	}
	return err
}

// setFault sets what precedes each step.
func (m *machine) setFault(f func(ctx context.Context, step string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// strike has happen what is to happen. m.mu is held.
func (m *machine) strike() {
	if m.pause == 0 {
		m.dead = true
		return
	}
	thawed := make(chan struct{})
	m.thawed = thawed
	time.AfterFunc(m.pause, func() { close(thawed) })
}

// await waits as long as the machine is paused, and returns an error if it is dead,
// or ctx has ended meanwhile.
func (m *machine) await(ctx context.Context) error {
	m.mu.Lock()
	dead, thawed := m.dead, m.thawed
	m.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
	if dead {
		return errKilled
	}
	return ctx.Err()
}

// isStruck reports whether something has happened to the machine.
func (m *machine) isStruck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead || m.thawed != nil
}

// madeSince returns the steps that took place after the first n.
func (m *machine) madeSince(n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.made[n:])
}

// machineStore is a machine's access to the store.
type machineStore struct{ *machine }

func (s machineStore) Get(ctx context.Context, key string) (data []byte, err error) {
	err = s.step(ctx, "get "+key, func() (err error) {
		data, err = s.store.Get(ctx, key)
		return err
	})
	return data, err
}

func (s machineStore) Put(ctx context.Context, key string, data []byte) error {
	return s.step(ctx, "put "+key, func() error { return s.store.Put(unwrapLease(ctx), key, data) })
}

func (s machineStore) Delete(ctx context.Context, key string) error {
	return s.step(ctx, "delete "+key, func() error { return s.store.Delete(unwrapLease(ctx), key) })
}

// unwrapLease makes the lease of ctx the store's.
func unwrapLease(ctx context.Context) context.Context {
	if l, ok := cache.Guarded(ctx).(machineLease); ok {
		return cache.Guard(ctx, l.Lease)
	}
	return ctx
}

func (s machineStore) Lock(ctx context.Context, name, owner string, ttl time.Duration) (lease cache.Lease, err error) {
	err = s.step(ctx, "lock "+name, func() (err error) {
		lease, err = s.store.Lock(ctx, name, owner, ttl)
		return err
	})
	if err != nil {
		return nil, err
	}
	return machineLease{lease, name, s.machine}, nil
}

// machineLease is a lease by that. Guard unwraps it.
type machineLease struct {
	cache.Lease
	name string
	m    *machine
}

func (l machineLease) Extend(ctx context.Context, ttl time.Duration) error {
	return l.m.step(ctx, "extend "+l.name, func() error { return l.Lease.Extend(ctx, ttl) })
}

func (l machineLease) Unlock(ctx context.Context) error {
	return l.m.step(ctx, "unlock "+l.name, func() error { return l.Lease.Unlock(ctx) })
}

// transport is the machine's way to the CA.
func (m *machine) transport(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (res *http.Response, err error) {
		err = m.step(req.Context(), "CA "+req.URL.Path, func() (err error) {
			if res, err = base.RoundTrip(req); err == nil {
				body, readErr := io.ReadAll(res.Body)
				res.Body.Close()
				res.Body, err = io.NopCloser(strings.NewReader(string(body))), readErr
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	})
}

// A site is a fleet with its CA and its store in a bubble.
type site struct {
	t        *testing.T
	ca       *acmetest.Server
	store    *sharedStore
	machines []*machine
}

// atSite runs f in a bubble with a new site, after set has set fields of its CA.
func atSite(t *testing.T, f func(t *testing.T, s *site), set ...func(ca *acmetest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewUnstartedServer()
		ca.ValidateInReply = acmetest.Never
		for _, f := range set {
			f(ca)
		}
		ca.StartMemory()
		s := &site{t: t, ca: ca, store: newSharedStore()}
		defer s.close()
		f(t, s)
	})
}

func (s *site) close() {
	if s.t.Failed() {
		s.t.Log(s.ca)
	}
	for _, m := range s.machines {
		m.setFault(nil)
		m.await(context.Background())
		m.Close()
		if s.t.Failed() {
			s.t.Logf("%s:\n%v%v", m.name, m.events, m.steps)
		}
	}
	s.ca.Close()
}

// machine adds a machine for hosts. The load balancer leads the CA to the last one that
// was added.
func (s *site) machine(hosts ...string) *machine {
	m := &machine{name: fmt.Sprintf("web-%d", len(s.machines)+1), events: new(recorder), store: s.store}
	m.Manager = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  machineStore{m},
		Hosts:  certmgr.MustAllowlist(hosts...),
		Client: &acme.Client{
			DirectoryURL: s.ca.URL,
			HTTPClient:   &http.Client{Transport: m.transport(s.ca.Client().Transport)},
		},
		Audit:     m.events.hook,
		Machine:   m.name,
		StartPace: -1,

		HandshakeWait: 10 * time.Second,
	}
	s.machines = append(s.machines, m)
	s.ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	return m
}

// visit is a handshake with a machine, as a TLS stack makes it.
func (m *machine) visit(host string) (*tls.Certificate, error) {
	return m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
}

// begin begins a handshake, and waits until all wait for something.
func (m *machine) begin(t *testing.T, host string) (done <-chan error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := m.visit(host)
		ended <- err
	}()
	synctest.Wait()
	return ended
}

// await visits the host on a machine until it is served, and returns how long that
// took. The test fails after most.
func (s *site) await(m *machine, host string, most time.Duration) (*tls.Certificate, time.Duration) {
	s.t.Helper()
	began := time.Now()
	for {
		cert, err := m.visit(host)
		took := time.Since(began)
		if err == nil {
			return cert, took
		}
		if took > most {
			s.t.Fatalf("%s does not serve %s after %v: %v", m.name, host, took, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// valid returns how many orders for a host have come to a certificate, and how many
// there are.
func (s *site) orders(host string) (valid, all int) {
	for _, o := range s.ca.Orders() {
		if o.Hosts[0] != host {
			continue
		}
		all++
		if o.Status == "valid" {
			valid++
		}
	}
	return valid, all
}

// wantHolder checks that an error says that another machine issues.
func wantHolder(t *testing.T, err error, holder string) {
	t.Helper()
	if !errors.Is(err, certmgr.ErrInFlight) || !strings.Contains(err.Error(), holder) {
		t.Errorf("got %v, want an ErrInFlight that names %s", err, holder)
	}
}

// wantOne checks that an event came once.
func (m *machine) wantOne(t *testing.T, kind audit.Kind) audit.Event {
	t.Helper()
	events := m.events.of(kind)
	if len(events) != 1 {
		t.Fatalf("%s: %d events %s, want 1: %v", m.name, len(events), kind, events)
	}
	return events[0]
}
