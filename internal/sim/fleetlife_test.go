package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/pace"
)

// fleetMoment is an action at an offset from the start. It may take a while: then the
// next one is late.
type fleetMoment struct {
	at time.Duration
	do func(f *fleet)
}

// mishap is a kind of incident of a fleet.
type mishap struct {
	name        string
	every       time.Duration
	least, most time.Duration
	recovery    time.Duration // see incidentPlan
	begin       func(f *fleet, rng *rand.Rand) (end func())
}

var mishaps = []mishap{
	{"outage of the CA", 90 * day, time.Minute, 4 * day, backoff, breakFleetCA(caOutage)},
	{"stall of the CA", 120 * day, time.Minute, 3 * day, backoff, breakFleetCA(caStall)},
	{"storm of 429", 120 * day, time.Minute, 3 * day, 2 * backoff, breakFleetCA(caStorm)},
	{"bad nonces", 120 * day, time.Hour, 5 * day, backoff, breakFleetCA(caNonces)},
	{"DNS moves away", 60 * day, time.Minute, 40 * day, backoff, moveAway},
	{"host off the lists", 60 * day, time.Minute, 60 * day, backoff, takeOff},
	{"the store", 40 * day, time.Minute, 3 * day, backoff, breakStore},
	{"a machine without the store", 40 * day, time.Minute, 3 * day, backoff, cutOff},
	{"a machine is killed", 30 * day, time.Hour, 5 * day, backoff + time.Hour, strikeOne(func(*rand.Rand) time.Duration { return 0 })},
	{"a machine is stopped", 30 * day, time.Hour, 5 * day, backoff + 3*time.Hour,
		strikeOne(func(rng *rand.Rand) time.Duration { return logUniform(rng, 5*time.Second, 3*time.Hour) })},
	{"a machine is restarted", 30 * day, time.Minute, 2 * time.Minute, time.Hour, restartOne},
}

func moveAway(f *fleet, rng *rand.Rand) func() {
	name := fmt.Sprintf("*.site%d.example", rng.IntN(*hostCount))
	f.ca.Resolve(name, acmetest.Target{})
	return func() { f.ca.Resolve(name, f.balanced()) }
}

func takeOff(f *fleet, rng *rand.Rand) func() {
	h := f.hosts[rng.IntN(*hostCount)]
	f.allow(h, false)
	return func() { f.allow(h, true) }
}

// drawFaults draws what happens to each kind of calls.
func drawFaults(rng *rand.Rand) (faults [storeCalls]storeFault) {
	for kind := range faults {
		faults[kind] = storeFault(rng.IntN(int(storeFaults)))
	}
	if rng.IntN(2) == 0 { // all alike
		fault := 1 + storeFault(rng.IntN(int(storeFaults)-1))
		faults = [storeCalls]storeFault{fault, fault, fault}
	}
	return faults
}

func breakStore(f *fleet, rng *rand.Rand) func() {
	f.store.set(nil, drawFaults(rng))
	return func() { f.store.clear(nil) }
}

func cutOff(f *fleet, rng *rand.Rand) func() {
	n := f.nodes[rng.IntN(len(f.nodes))]
	f.store.set(n, drawFaults(rng))
	return func() { f.store.clear(n) }
}

// strikeOne has one machine struck when it does something.
func strikeOne(lasts func(*rand.Rand) time.Duration) func(f *fleet, rng *rand.Rand) func() {
	return func(f *fleet, rng *rand.Rand) func() {
		p := f.nodes[rng.IntN(len(f.nodes))].life()
		p.arm(&blow{steps: rng.IntN(fleetSteps), lasts: lasts(rng), asleep: rng.IntN(2) == 0})
		return func() { p.arm(nil) }
	}
}

func restartOne(f *fleet, rng *rand.Rand) func() {
	f.nodes[rng.IntN(len(f.nodes))].restart()
	return func() {}
}

// fleetSteps is more than the steps of an issuance.
const fleetSteps = 70

func breakFleetCA(kind incidentKind) func(f *fleet, rng *rand.Rand) func() {
	return func(f *fleet, rng *rand.Rand) func() {
		i := &incident{incidentPlan: &incidentPlan{kind: kind}, variant: rng.IntN(1 << 16)}
		undo := i.breakCA(f.ca)
		return func() { lift(undo) }
	}
}

// timeline returns all actions.
func (f *fleet) timeline() []fleetMoment {
	var all []fleetMoment
	add := func(at time.Duration, do func(f *fleet)) {
		if at < f.span {
			all = append(all, fleetMoment{at, do})
		}
	}
	visit := func(f *fleet) {
		for _, h := range f.hosts {
			f.visitAll(h)
		}
	}
	every(f.rng, 30*time.Hour, f.span, func(at time.Duration) { add(at, visit) })
	every(f.rng, 6*day, f.span-30*day, func(at time.Duration) { add(at, (*fleet).newHost) })
	for _, m := range mishaps {
		every(f.rng, m.every, f.span, func(at time.Duration) {
			lasts, rng := logUniform(f.rng, m.least, m.most), rand.New(rand.NewPCG(f.seed, f.rng.Uint64()))
			if at+lasts > f.span-30*day {
				return
			}
			var end func()
			add(at, func(f *fleet) { end = f.beginMishap(m, rng) })
			add(at+lasts, func(*fleet) { end() })
			for _, after := range []time.Duration{time.Second, time.Minute, lasts / 2, lasts + time.Minute, lasts + time.Hour, lasts + 31*time.Hour} {
				add(at+after, visit)
			}
		})
	}
	// Lifetimes get shorter, by other profiles: 90 days, 45 days, 160 hours.
	add(f.span*5/10, func(f *fleet) { f.setProfile("tlsserver") })
	add(f.span*85/100, func(f *fleet) { f.setProfile("shortlived") })
	for at := day / 2; at < f.span; at += day / 2 {
		add(at, (*fleet).checkIssued)
	}
	every(f.rng, 30*day, f.span, func(at time.Duration) { add(at, (*fleet).checkRequests) })
	slices.SortStableFunc(all, func(a, b fleetMoment) int { return cmp.Compare(a.at, b.at) })
	return all
}

// beginMishap begins one, and returns what ends it.
func (f *fleet) beginMishap(m mishap, rng *rand.Rand) (end func()) {
	f.mu.Lock()
	f.active[m.name]++
	f.mu.Unlock()
	undo := m.begin(f, rng)
	return func() {
		undo()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active[m.name]--
		f.healthy = pace.Later(f.healthy, time.Now().Add(m.recovery))
	}
}

// setProfile restarts one machine after the other.
func (f *fleet) setProfile(name string) {
	f.mu.Lock()
	f.profile = name
	f.mu.Unlock()
	for _, n := range f.nodes {
		n.restart()
		time.Sleep(time.Minute)
	}
}

// newHost adds a host, and removes it when all machines have its certificate.
func (f *fleet) newHost() {
	f.newHosts++
	trial := f.drawTrial()
	h := f.add(fmt.Sprintf("%s%d.example", newHostPrefix, f.newHosts))
	f.mu.Lock()
	h.isNew = true
	calm := f.calm(time.Now())
	f.mu.Unlock()
	f.awaitNew(h, trial, calm)
	certificates := 1
	if trial.renew && f.renew(h) {
		certificates = 2
	}
	time.Sleep(4 * fleetLease) // until a machine that was stopped is back, and has done what is left
	for range 15 {
		f.visitAll(h)
		time.Sleep(time.Second)
	}
	if late := f.lateFor(h); calm && len(late) > 0 {
		f.violated(h.name, "%s: not served by %v at last", trial.name, late)
	}
	if n := len(f.ca.IssuedFor(h.name)); calm && n != certificates {
		f.violated(h.name, "%s: %d certificates were issued, want %d", trial.name, n, certificates)
	}
	f.checkIssued()
	f.remove(h)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.healthy = pace.Later(f.healthy, time.Now().Add(trial.recovery))
}

// awaitNew visits a new host on all machines until they serve it. If nothing else was
// wrong before, they must in time.
func (f *fleet) awaitNew(h *fleetHost, trial trial, calm bool) {
	began := time.Now()
	trial.begin(f)
	end := sync.OnceFunc(func() { trial.end(f) })
	defer end()
	for !f.failed() {
		took := time.Since(began)
		if took >= trial.lasts {
			end()
		}
		f.visitAll(h)
		time.Sleep(250 * time.Millisecond)
		late := f.lateFor(h)
		stored := f.store.stored(h.name)
		switch {
		case len(late) == 0:
			return
		case took > trial.limit:
			if calm {
				f.violated(h.name, "%s: not served by %v after %v", trial.name, late, took)
			}
			return
		case calm && trial.strict && stored.leaf != nil && time.Since(stored.at) > storedServed:
			f.violated(h.name, "%s: stored at %v, and not served by %v", trial.name, stored.at, late)
			return
		}
	}
}

// storedServed is how soon each machine serves a certificate that was stored, with the
// time between two visitors.
const storedServed = 2 * time.Second

// renew has a machine renew the certificate of a host, as operators do, and reports
// whether it did.
func (f *fleet) renew(h *fleetHost) bool {
	p := f.next().life()
	for up, _ := p.state(); !up; up, _ = p.state() {
		time.Sleep(time.Second) // all of them may be dead or stopped
		p = f.next().life()
	}
	if err := p.m.Renew(f.t.Context(), h.name); err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h.renewed = time.Now()
	return true
}

// lateFor returns which of the machines that are up, and not just started, do not
// serve a host yet.
func (f *fleet) lateFor(h *fleetHost) (late []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		up, _ := n.p.state()
		n.p.mu.Lock()
		served := n.p.served[h.name].leaf != nil
		n.p.mu.Unlock()
		if !served && (up && time.Since(n.p.started) > 10*time.Second || !f.serves(h)) {
			late = append(late, n.name)
		}
	}
	return late
}

// serves reports whether the store has a certificate. f.mu is held.
func (f *fleet) serves(h *fleetHost) bool { return f.store.stored(h.name).leaf != nil }

// newHostPrefix begins the names of new hosts.
const newHostPrefix = "www.new"

// trial is what a new host undergoes.
type trial struct {
	name       string
	begin, end func(f *fleet)
	lasts      time.Duration
	limit      time.Duration // until all machines that are up serve it
	strict     bool          // and within storedServed
	renew      bool          // after that
	recovery   time.Duration
}

// drawTrial makes up a trial. The number of the host decides on its kind.
func (f *fleet) drawTrial() trial {
	const soon = 15 * time.Second
	rng := rand.New(rand.NewPCG(f.seed, uint64(f.newHosts)))
	b := &blow{steps: rng.IntN(fleetSteps), asleep: rng.IntN(2) == 0}
	t := trial{limit: soon, begin: func(f *fleet) { f.setTrap(b) }, end: func(f *fleet) { f.disarm(b) }, lasts: time.Hour}
	switch f.newHosts % 7 {
	case 0:
		t.name, t.strict = "nothing happens", true
		t.begin = func(*fleet) {}
	case 1, 2:
		t.name = fmt.Sprintf("the machine that issues is killed at step %d", b.steps)
		t.limit += fleetLease + 5*time.Second
		t.recovery = 2 * time.Hour
	case 3:
		b.lasts = logUniform(rng, time.Second, 4*fleetLease)
		t.name = fmt.Sprintf("the machine that issues is stopped at step %d for %v", b.steps, b.lasts)
		// An extension that was on its way takes place when it goes on.
		t.limit += min(b.lasts, fleetLease) + fleetLease + 5*time.Second
		t.recovery = 2 * time.Hour
	case 4:
		b.lasts, b.cut = logUniform(rng, time.Second, 4*fleetLease), 1+storeFault(rng.IntN(int(storeFaults)-1))
		t.name = fmt.Sprintf("the machine that issues loses the store at step %d for %v, variant %d", b.steps, b.lasts, b.cut)
		t.limit += b.lasts + 10*time.Minute // the CA may ask this machine
		t.recovery = 2 * time.Hour
	case 5:
		b.steps, b.atPut, b.lasts = rng.IntN(2), true, 3*fleetLease+time.Duration(rng.Int64N(int64(fleetLease)))
		t.name = fmt.Sprintf("the machine that issues is stopped at step %d of storing the certificate for %v, and it is renewed", b.steps, b.lasts)
		t.limit += fleetLease + 5*time.Second
		t.renew, t.recovery = true, 2*time.Hour
	case 6:
		faults := drawFaults(rng)
		t.lasts = logUniform(rng, 5*time.Second, 2*time.Minute)
		t.name = fmt.Sprintf("the store fails for %v, variants %d", t.lasts, faults)
		t.begin = func(f *fleet) { f.store.set(nil, faults) }
		t.end = func(f *fleet) { f.store.clear(nil) }
		t.limit += t.lasts + 10*time.Minute
		t.recovery = 2 * time.Hour
	}
	return t
}

// setTrap has the next machine that gets the lock of a new host struck.
func (f *fleet) setTrap(b *blow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trap = b
}

// disarm takes a trap back, also from the machine that is in it.
func (f *fleet) disarm(b *blow) {
	f.setTrap(nil)
	for _, n := range f.nodes {
		n.life().disarm(b)
	}
}

func (f *fleet) takeTrap() *blow {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.trap
	f.trap = nil
	return b
}
