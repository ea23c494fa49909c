package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/pace"
)

// liveWithNewHosts lets one new host after the other undergo an episode.
func (w *world) liveWithNewHosts(first, episodes int) {
	for n := first; n < first+episodes && !w.failed(); n++ {
		w.undergo(drawEpisode(w.seed, n))
		if n%crowdEvery == pressureAt {
			w.flap(n)
			w.besiege(n)
		}
		if n%crowdEvery == crowdEvery-1 {
			w.crowd(n)
		}
	}
}

// undergo lets a new host undergo an episode, and checks that it gets its
// certificate in time and that nothing is left.
func (w *world) undergo(e *episode) {
	w.prepare(e)
	h := w.addHost(fmt.Sprintf("www.new%d.example", e.number))
	i := &incident{incidentPlan: &incidentPlan{name: e.String()}}
	w.mu.Lock()
	w.active[i] = true
	h.trouble[i] = true
	w.retryAfter = e.retryAfter
	w.mu.Unlock()

	undo := e.begin(w, h)
	w.visitUntil(h, time.Now().Add(e.outage))
	if e.outage > 0 {
		lift(undo)
	}
	w.stop(e.sleep, e.stops)
	over := time.Now()
	if limit := e.limit(); !w.visitUntil(h, over.Add(limit)) {
		w.violated(h, "no certificate %v after the end", limit)
		w.visitUntil(h, over.Add(2*day)) // to report how long it took
		w.t.Logf("served after %v", time.Since(over))
	}
	lift(undo)
	w.p.disarm()
	w.sleepUntil(time.Now().Add(2 * time.Minute)) // for what is left to do in the background
	w.checkNewHost(h, e.kill >= 0)
	w.checkRequests()
	w.remove(h)
	w.mu.Lock()
	w.retryAfter = 0
	delete(w.active, i)
	w.mu.Unlock()
}

// lift ends faults.
func lift(undo []func()) {
	for _, f := range undo {
		f()
	}
}

// prepare makes sure that the episode's exchange takes place at all: a process
// that has used the CA has a directory, a nonce and an account.
func (w *world) prepare(e *episode) {
	w.mu.Lock()
	w.hosts = nil
	w.mu.Unlock()
	switch {
	case e.place.endpoint == acmetest.NewAccount || e.everything && e.variant%3 == 0:
		w.loseCache()
		w.restart()
	case e.place.isUnsigned(), e.everything && e.variant%3 == 1:
		w.restart()
	}
}

// addHost puts a new host on the list.
func (w *world) addHost(name string) *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := newHost(name)
	w.hosts = append(w.hosts, h)
	w.point(h)
	must(w.p.m.Hosts.Add(h.name))
	return h
}

// visitUntil sends visitors until t or until the host has a certificate, which
// it reports.
func (w *world) visitUntil(h *host, t time.Time) (served bool) {
	for {
		if w.isServed(h) {
			return true
		}
		left := time.Until(t)
		if left <= 0 {
			return false
		}
		w.visit(h)
		step := time.Second
		if left > 2*time.Minute {
			step = 5 * time.Second
		}
		w.sleepUntil(time.Now().Add(min(step, left)))
	}
}

func (w *world) isServed(h *host) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.served != nil
}

const (
	crowdEvery = 100
	crowdHosts = 80
	crowdSleep = 20 * day
	crowdWait  = 12 * day
)

// crowd starts a Manager with many names of one domain, so that most of them
// have to wait for their turn, and lets turns pass unused: the machine is
// suspended, or the CA out of order. What is due then must keep the pace as well.
func (w *world) crowd(n int) {
	w.mu.Lock()
	w.hosts = nil
	for i := range crowdHosts {
		w.hosts = append(w.hosts, newHost(fmt.Sprintf("www%d.crowd%d.example", i, n)))
	}
	w.mu.Unlock()
	w.restart()
	w.sleepUntil(time.Now().Add(time.Minute))
	before := len(w.ca.Issued())
	if n/crowdEvery%2 == 0 {
		w.stop(crowdSleep, false)
	} else {
		fault := w.ca.Drop(acmetest.Match{})
		w.sleepUntil(time.Now().Add(crowdWait))
		fault.Lift()
	}
	w.sleepUntil(time.Now().Add(20 * time.Minute))
	if n, most := len(w.ca.Issued())-before, pace.DomainBurst+1; n > most {
		w.violated(nil, "%d certificates for one domain at once, want %d at most", n, most)
	}
	w.checkRequests()
	for _, h := range slices.Clone(w.hosts) {
		w.remove(h)
	}
	w.issued.take()
}
