package sim

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// world is a simulation of a Manager, its CA and its cache.
type world struct {
	t     *testing.T
	seed  uint64
	again string // flags that reproduce it
	span  time.Duration
	plans []*incidentPlan
	group bool // all hosts are a group
	begin time.Time
	rng   *rand.Rand // of the main goroutine

	ca       *acmetest.Server
	cache    *unreliable
	clock    *clock
	hosts    []*host
	issued   issuedCertificates
	operator *operator
	visits   sync.WaitGroup
	killed   chan struct{} // capacity 1: a process was killed

	// Written by the main goroutine under mu, read by visits.
	mu         sync.Mutex
	p          *process
	generation int // number of restarts of the Manager
	kills      int
	started    time.Time
	skew       time.Duration // of the machine's wall clock, behind the CA's
	profile    string        // Manager.Profile
	chosen     time.Time     // when it was set
	active     map[*incident]bool
	regrouped  time.Time     // when a host last left or joined the group
	ariHealthy time.Time     // since when renewal information works
	forgetful  time.Time     // when the cache last lost something
	accounts   int           // number of accounts that the CA may have
	requests   int           // number of requests checked
	retryAfter time.Duration // what refusals that the test wants ask for, or 0
	takeovers  int           // number of own certificates that were checked when they had ended
	violations int
}

// host is a name and its known state. world.mu guards it.
type host struct {
	name     string
	allowed  bool
	since    time.Time         // of allowed
	served   *x509.Certificate // last served by this Manager
	trouble  map[*incident]bool
	healthy  time.Time // since when, without incidents, refusals are violations
	revoked  map[string]time.Time
	absences []span    // times off the list
	removals int       // number of incidents that keep it off the list
	servedAt time.Time // time of served
	verified string    // serial number of the last verified certificate
	visits   int       // of an address, so far
	own      own
}

func newHost(name string) *host {
	return &host{name: name, allowed: true, since: time.Now(), trouble: make(map[*incident]bool), revoked: make(map[string]time.Time)}
}

// span is a time interval.
type span struct{ from, to time.Time }

// hostName spreads hosts over several registered domains. Some are addresses.
func hostName(i int) string {
	if i%50 == 2 {
		return fmt.Sprintf("2001:db8:%x::1", i)
	}
	return fmt.Sprintf("www%d.site%d.example", i, i%max(3, i/10))
}

func newWorld(t *testing.T, seed uint64, hosts int, span time.Duration) *world {
	w := makeWorld(t, seed, hosts, span)
	w.beginOwn()
	w.start()
	return w
}

// makeWorld is newWorld without a Manager.
func makeWorld(t *testing.T, seed uint64, hosts int, span time.Duration) *world {
	w := &world{t: t, plans: plans, seed: seed, span: span, begin: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)),
		operator: newOperator(), cache: newUnreliable(), clock: new(clock), killed: make(chan struct{}, 1), active: make(map[*incident]bool), accounts: 1}
	w.ca = acmetest.NewUnstartedServer()
	w.ca.RateLimits = acmetest.LetsEncryptRateLimits()
	w.ca.RateLimits.Requests = nil // requests take no time in a bubble
	w.ca.Profiles, w.ca.DefaultProfile = acmetest.LetsEncryptProfiles(), "classic"
	drawHabits(w.ca, seed)
	w.ca.StartMemory()
	w.profile = "classic"
	w.ca.RetryAfter(acmetest.RenewalInfo, "43200") // each request slows the simulation down
	w.ca.EditCertificate("*", w.issued.add)
	for i := range hosts {
		w.hosts = append(w.hosts, newHost(hostName(i)))
	}
	return w
}

// start creates a Manager with the cache and the current hosts.
func (w *world) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := certmgr.MustAllowlist()
	for _, h := range w.hosts {
		h.served = nil
		h.own.restarted()
		if h.allowed {
			must(list.Add(w.entry(list, h)))
		}
	}
	w.generation++
	w.started = time.Now()
	w.p = w.newProcess(list)
	for _, h := range w.hosts {
		w.point(h)
	}
	must(w.p.m.Start(context.Background()))
}

// entry returns what to add to a list for a host: with the first name of the group
// that it is to join, if there is one.
func (w *world) entry(list *certmgr.Allowlist, h *host) string {
	if w.group {
		if groups := list.Groups(); len(groups) > 0 {
			return groups[0][0] + " " + h.name
		}
		for name := range list.All() {
			return name + " " + h.name
		}
	}
	return h.name
}

// point resolves a host's name to the Manager, unless it has moved away.
func (w *world) point(h *host) {
	for i := range h.trouble {
		if i.kind == dnsMoved {
			w.ca.Resolve(h.name, acmetest.Target{}) // another machine
			return
		}
	}
	w.ca.Resolve(h.name, acmetest.Target{TLSConfig: w.p.tlsConfig()})
}

// restart closes the Manager and starts a new one.
func (w *world) restart() {
	w.mu.Lock()
	p := w.p
	w.generation++ // handshakes in progress may get ErrClosed
	w.mu.Unlock()
	w.close(p)
	w.start()
}

// setProfile restarts the Manager with another profile.
func (w *world) setProfile(name string) {
	w.mu.Lock()
	w.profile, w.chosen = name, time.Now()
	w.mu.Unlock()
	w.restart()
}

// close closes a Manager and checks its events.
func (w *world) close(p *process) {
	if err := p.m.Close(); err != nil && !p.isDead() {
		w.violated(nil, "Close: %v", err)
	}
	w.settle(p.ledger)
}

// sleepUntil waits until t, and meanwhile starts a new Manager for each that is
// killed.
func (w *world) sleepUntil(t time.Time) {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-w.killed:
			if w.p.isDead() { // and no restart has come first
				w.kills++
				w.restart()
			}
		}
	}
}

// settle checks the ledger of a closed Manager.
func (w *world) settle(l *ledger) {
	synctest.Wait()
	for _, v := range l.close() {
		w.violated(nil, "%s", v)
	}
}

// live runs the simulation, action by action.
func (w *world) live() {
	moments := timeline(w.rng, w.plans, len(w.hosts), w.span)
	moments = append(moments, w.operator.moments...)
	slices.SortStableFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	for _, m := range moments {
		if w.failed() {
			return
		}
		w.sleepUntil(w.begin.Add(m.at))
		m.do(w)
	}
	w.sleepUntil(w.begin.Add(w.span))
}

// end closes everything; a leaked goroutine makes the bubble fail.
func (w *world) end() {
	w.visits.Wait()
	w.checkRequests()
	w.checkStored()
	w.close(w.p)
	w.ca.Close()
	if w.clock.spun.Load() {
		w.violated(nil, "the clock was read more than %d times while no time passed: something spins", maxReadings)
	}
	w.t.Logf("seed %d: %d certificates, %d requests, %d restarts, %d kills, %d own certificates ended", w.seed, len(w.ca.Issued()), w.requests, w.generation/2-w.kills, w.kills, w.takeovers)
}

// visit is one handshake.
func (w *world) visit(h *host) {
	hello := h.hello()
	w.visits.Go(func() {
		w.mu.Lock()
		v := visit{host: h, process: w.p, generation: w.generation, begin: time.Now(), local: w.clock.wall()}
		w.mu.Unlock()
		v.cert, v.err = v.process.m.GetCertificate(hello)
		v.took = time.Since(v.begin)
		w.check(v)
	})
}

// visitAll makes one handshake for every host now.
func (w *world) visitAll() {
	for _, h := range w.hosts {
		w.visit(h)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
