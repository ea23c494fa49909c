package sim

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// fleetLease is Manager.Lease.
const fleetLease = 30 * time.Second

// TestTenYearsOfAFleet simulates years of three machines on one store with locks.
// Their clocks are up to ten minutes apart. The store fails, hangs and is slow, for
// all machines or for one; machines are killed and stopped at any step of an
// issuance, and restarted; the CA fails; hosts come and go. It checks all the time
// that
//
//   - no handshake for an allowed host gets an expired or wrong certificate, or is
//     refused although a certificate is in the memory of its machine or in a store
//     that the machine can read;
//   - a new host is served by every machine in time, which after a kill is the lease
//     and some seconds, and by each one 2 s after its certificate was stored;
//   - a host has one certificate at a time: no other one is issued on the same day;
//   - no certificate in the store is lost, or replaced by an older one;
//   - a machine that looks finds what others have renewed;
//   - there is one account, and no limit of the CA is exceeded;
//   - at the end every lock is free and nothing runs.
func TestTenYearsOfAFleet(t *testing.T) {
	seeds := *seedCount
	if raceEnabled {
		seeds = 1
	}
	for i := range seeds {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, seed, *hostCount, time.Duration(*yearCount)*year)
				f.again = fmt.Sprintf("TestTenYearsOfAFleet -sim.seed %d -sim.seeds 1 -sim.hosts %d -sim.years %d", seed, *hostCount, *yearCount)
				f.live()
				f.end()
			})
		})
	}
}

// fleet is a simulation of three machines, their CA and their store.
type fleet struct {
	t     *testing.T
	seed  uint64
	again string
	span  time.Duration
	begin time.Time
	rng   *rand.Rand // of the main goroutine

	ca         *acmetest.Server
	store      *fleetStore
	nodes      []*node
	issued     issuedCertificates
	background sync.WaitGroup // visits, and what happens to machines

	mu         sync.Mutex
	chance     *rand.Rand
	hosts      []*fleetHost
	profile    string
	turn       int   // of the load balancer
	trap       *blow // for the next machine that has the lock of a new host
	active     map[string]int
	healthy    time.Time
	starts     int
	kills      int
	stops      int // of machines
	newHosts   int
	requests   int
	violations int
	wrong      map[string]bool     // known serial numbers
	recent     []issuedCertificate // of the last day
}

// fleetHost is a name. fleet.mu guards it.
type fleetHost struct {
	name     string
	allowed  bool
	since    time.Time
	checking map[*node]bool
	isNew    bool      // see newHost
	renewed  time.Time // when an operator last had it renewed
}

func newFleet(t *testing.T, seed uint64, hosts int, span time.Duration) *fleet {
	f := &fleet{t: t, seed: seed, span: span, begin: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)), chance: rand.New(rand.NewPCG(seed, 1)),
		active: make(map[string]int), profile: "classic", wrong: make(map[string]bool)}
	f.store = newFleetStore(f, seed)
	f.ca = acmetest.NewUnstartedServer()
	f.ca.RateLimits = acmetest.LetsEncryptRateLimits()
	f.ca.RateLimits.Requests = nil // requests take no time in a bubble
	f.ca.Profiles, f.ca.DefaultProfile = acmetest.LetsEncryptProfiles(), "classic"
	drawHabits(f.ca, seed)
	f.ca.StartMemory()
	f.ca.RetryAfter(acmetest.RenewalInfo, "43200")
	f.ca.EditCertificate("*", f.issued.add)
	f.ca.Resolve("*", f.balanced())
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range hosts {
		f.hosts = append(f.hosts, newFleetHost(fmt.Sprintf("www%d.site%d.example", i, i)))
	}
	for i := range 3 {
		n := &node{name: fmt.Sprintf("m%d", i+1), f: f}
		f.nodes = append(f.nodes, n)
	}
	for _, n := range f.nodes {
		n.start()
	}
	return f
}

func newFleetHost(name string) *fleetHost {
	return &fleetHost{name: name, allowed: true, since: time.Now(), checking: make(map[*node]bool)}
}

// balanced is where names lead to.
func (f *fleet) balanced() acmetest.Target {
	return acmetest.Target{TLSConfig: &tls.Config{NextProtos: []string{"h2", "http/1.1", "acme-tls/1"}, GetCertificate: f.getCertificate}}
}

// next returns the machine whose turn it is.
func (f *fleet) next() *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
	return f.nodes[f.turn%len(f.nodes)]
}

// downtime returns how long a machine that was killed is away.
func (f *fleet) downtime() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return logUniform(f.chance, time.Second, time.Hour)
}

// add puts a new host on the lists of all machines.
func (f *fleet) add(name string) *fleetHost {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := newFleetHost(name)
	f.hosts = append(f.hosts, h)
	for _, n := range f.nodes {
		must(n.p.m.Hosts.Add(name))
	}
	return h
}

// allow puts a host on the lists, or takes it off.
func (f *fleet) allow(h *fleetHost, allowed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.allowed == allowed {
		return
	}
	h.allowed, h.since = allowed, time.Now()
	for _, n := range f.nodes {
		if allowed {
			must(n.p.m.Hosts.Add(h.name))
			continue
		}
		n.p.m.Hosts.Remove(h.name)
		n.p.forget(h)
	}
}

func (p *life) forget(h *fleetHost) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.served, h.name)
}

// remove takes a host off the lists for ever.
func (f *fleet) remove(h *fleetHost) {
	f.allow(h, false)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = slices.DeleteFunc(f.hosts, func(other *fleetHost) bool { return other == h })
}

// settle checks the ledger of a closed Manager.
func (f *fleet) settle(l *ledger) {
	time.Sleep(time.Nanosecond)
	for _, v := range l.close() {
		f.violated("", "%s", v)
	}
}

// live runs the simulation.
func (f *fleet) live() {
	for _, m := range f.timeline() {
		if f.failed() {
			return
		}
		if wait := time.Until(f.begin.Add(m.at)); wait > 0 {
			time.Sleep(wait)
		}
		m.do(f)
	}
	if wait := time.Until(f.begin.Add(f.span)); wait > 0 {
		time.Sleep(wait)
	}
}

// end closes everything; a leaked goroutine makes the bubble fail.
func (f *fleet) end() {
	f.background.Wait()
	f.checkRequests()
	for _, n := range f.nodes {
		n.p.close()
	}
	f.background.Wait()
	for key := range f.store.entries {
		lease, err := f.store.inner.Lock(f.t.Context(), key+"+issue", "the test", time.Second)
		var held *cache.HeldError
		if errors.As(err, &held) {
			f.violated(key, "its lock is left: %v", err)
			continue
		}
		must(err)
		must(lease.Unlock(f.t.Context()))
	}
	f.ca.Close()
	f.t.Logf("seed %d: %d certificates, %d new hosts, %d requests, %d starts, %d kills, %d stops", f.seed, len(f.ca.Issued()), f.newHosts, f.requests, f.starts, f.kills, f.stops)
}

func (f *fleet) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.violations >= 3
}

// violated reports a violation and everything needed to reproduce it. f.mu must not be held.
func (f *fleet) violated(host, format string, args ...any) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.violations++; f.violations > 3 {
		return
	}
	var recent strings.Builder
	for _, n := range f.nodes {
		if host != "" && n.p != nil {
			fmt.Fprintf(&recent, "\n\t%s (clock %v off): %s", n.name, n.p.skew.Round(time.Second), n.p.ledger.last(host))
		}
	}
	if host != "" {
		host += ": "
	}
	going := slices.DeleteFunc(slices.Sorted(maps.Keys(f.active)), func(name string) bool { return f.active[name] == 0 })
	f.t.Errorf("day %.5f (%v): "+host+format+"\n\tgoing on: %s\n\tlast events: %s\n\t"+violationMark+"%s",
		append([]any{time.Since(f.begin).Hours() / 24, time.Now()}, append(args, strings.Join(going, ", "), recent.String(), f.again)...)...)
}
