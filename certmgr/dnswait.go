package certmgr

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/pace"
)

// dnsWaits holds the hosts that wait for DNS: names on the list that do not lead
// here, with preflight.Enforce. They have not failed: nothing was asked of the
// CA, and they do not back off. Each is probed until it leads here. The schedule
// has the appointments for that.
type dnsWaits struct {
	*env
	times  waitTimes
	shared *sharedWaits       // nil if each machine looks for itself
	isDue  func(subject) bool // whether it has no certificate that is planned to be renewed later; set before the first use

	mu    sync.Mutex
	hosts map[string]*dnsWait
}

// dnsWait is one host that waits. dnsWaits.mu guards it.
type dnsWait struct {
	sub      subject        // the one that is ordered when it leads here
	since    time.Time      // the first probe
	probed   time.Time      // the last one
	wait     time.Duration  // after the next probe of the first hour
	by       string         // the other machine that made the last one, or ""
	err      *IssuanceError // where it leads, and when it is probed again; never changed
	told     []netip.Addr   // where it leads, by the last event
	toldAt   time.Time
	changes  int // how often that was told
	lastRead time.Time
}

const (
	// firstProbe is the wait after the first probe of a name. The next waits are
	// longer by half each, up to mostProbe. It is also the shortest time between two
	// probes of a name, however many visitors it has.
	firstProbe = 15 * time.Second
	mostProbe  = 5 * time.Minute

	// probeOften is how long a name is probed so, and probeRarely the wait after
	// that.
	probeOften  = time.Hour
	probeRarely = time.Hour

	// staleAfter is how long a name may wait before it is in StaleHosts.
	staleAfter = 7 * 24 * time.Hour

	// maxChangesTold is how many changes of where a name leads are told at once.
	// After that it is one a day: some names lead elsewhere at each look.
	maxChangesTold   = 5
	tellChangesEvery = 24 * time.Hour
)

func newDNSWaits(e *env, v *visits, s *sharedWaits) *dnsWaits {
	return &dnsWaits{env: e, times: waitTimes{v}, shared: s, hosts: make(map[string]*dnsWait)}
}

// covers reports whether a host waits for DNS if it does not lead here.
func (d *dnsWaits) covers(host string) bool {
	return d.settings.preflight == preflight.Enforce && d.settings.trustOf(host) == listed
}

// of returns why a host waits, and when it is probed next, or nil. It is not nil
// for hosts that are on the list alone.
func (d *dnsWaits) of(host string) *IssuanceError {
	if d.settings.preflight != preflight.Enforce {
		return nil // the usual case
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.hosts[host]; w != nil && d.covers(host) {
		return w.err
	}
	return nil
}

// note notes that a probe found a host to lead elsewhere, which e says. It returns
// e with the time of the next probe; or nil if the host has left the list
// meanwhile, or has a certificate that is not due.
func (d *dnsWaits) note(sub subject, e IssuanceError) *IssuanceError {
	where := addressesOf(e.Err)
	d.mu.Lock()
	defer d.mu.Unlock()
	w, began := d.wait(sub, e.Time)
	if w == nil {
		return nil
	}
	w.by = ""
	e.RetryAt = w.step(e.Time).Add(d.shared.delay())
	return d.tell(w, began, where, e)
}

// wait returns the wait of a host, which begins at since if there is none. It returns
// nil if the host does not wait for DNS, or has a certificate that is not due. d.mu is
// locked.
func (d *dnsWaits) wait(sub subject, since time.Time) (w *dnsWait, began bool) {
	host := sub.host()
	if !d.covers(host) || !d.isDue(sub) {
		return nil, false
	}
	if w = d.hosts[host]; w == nil {
		w, began = &dnsWait{sub: sub, since: since, wait: firstProbe}, true
		d.hosts[host] = w
		d.times.begin(host, since)
	}
	return w, began
}

// tell sets why a host waits, and tells that if it is new. d.mu is locked.
func (d *dnsWaits) tell(w *dnsWait, began bool, where []netip.Addr, e IssuanceError) *IssuanceError {
	e.State = StateWaitingForDNS
	w.err = &e
	changed := !began && !slices.Equal(where, w.told) && (w.changes < maxChangesTold || e.Time.Sub(w.toldAt) >= tellChangesEvery)
	if !began && !changed {
		return w.err
	}
	ev := audit.Event{
		Kind:     audit.WaitingForDNS,
		Host:     e.Host,
		KeyType:  e.KeyType,
		Attempt:  e.Attempt,
		Stage:    e.Stage,
		CA:       d.dir,
		Decision: audit.Refused,
		Rule:     "Preflight: " + d.settings.preflight.String(),
		State:    string(e.State),
		Reason:   "it does not lead here",
		RetryAt:  e.RetryAt,
		Err:      w.err,
	}
	if changed {
		ev.Reason = "it leads elsewhere than before, and not here"
		w.changes++
	}
	w.told, w.toldAt = where, e.Time
	d.audit.Emit(ev)
	return w.err
}

// unsure notes a probe that was inconclusive: the host still waits. It returns nil
// if it does not.
func (d *dnsWaits) unsure(host string, now time.Time) *IssuanceError {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.hosts[host]
	if w == nil {
		return nil
	}
	w.setNext(w.step(now))
	return w.err
}

// step notes a probe, and returns when the next one is due.
func (w *dnsWait) step(now time.Time) time.Time {
	w.since, w.probed = pace.Earlier(w.since, now), now
	if now.Sub(w.since) >= probeOften {
		return now.Add(probeRarely)
	}
	wait := w.wait
	w.wait = min(wait*3/2, mostProbe)
	return now.Add(wait)
}

func (w *dnsWait) setNext(t time.Time) {
	e := *w.err
	e.RetryAt = t
	w.err = &e
}

// visited brings the next probe of a host forward, which somebody asks for. It
// returns nil if the host does not wait. soon says that the probe of sub is due
// sooner than before.
func (d *dnsWaits) visited(host string, now time.Time) (e *IssuanceError, sub subject, soon bool) {
	if d.of(host) == nil {
		return nil, subject{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.hosts[host]
	if w == nil {
		return nil, subject{}, false
	}
	w.probed = pace.Earlier(w.probed, now)
	if at := pace.Later(now, w.probed.Add(firstProbe)); at.Before(w.err.RetryAt) {
		w.setNext(at)
		soon = true
	}
	return w.err, w.sub, soon
}

// mayRead reports whether a visitor may have the Cache read again, and records
// that it does.
func (d *dnsWaits) mayRead(host string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.hosts[host]
	if w == nil {
		return false
	}
	if since := now.Sub(w.lastRead); since >= 0 && since < rereadEvery {
		return false
	}
	w.lastRead = now
	return true
}

// The reasons for which a host no longer waits.
const (
	endedHere     = "it leads here"
	endedByOther  = "a certificate was found in the Cache"
	endedUnlisted = "it is no longer on the list"
	endedByOrder  = "an order was placed for it"
)

// end ends the wait of a host, if it waits, and returns the subject whose probe
// is scheduled.
func (d *dnsWaits) end(host, why string) (sub subject, waited bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.hosts[host]
	if w == nil {
		return subject{}, false
	}
	delete(d.hosts, host)
	d.times.end(host)
	d.shared.forget(host)
	d.audit.Emit(audit.Event{
		Kind:     audit.DNSWaitEnded,
		Host:     host,
		KeyType:  w.sub.alg.String(),
		Stage:    audit.StagePreflight,
		CA:       d.dir,
		Reason:   why,
		Duration: max(d.now().Sub(w.since), 0),
	})
	return w.sub, true
}

// all calls yield for every host that waits, with no lock held.
func (d *dnsWaits) all(yield func(e *IssuanceError, since time.Time)) {
	d.mu.Lock()
	waits := make([]dnsWait, 0, len(d.hosts))
	for _, w := range d.hosts {
		waits = append(waits, *w)
	}
	d.mu.Unlock()
	for _, w := range waits {
		if host := w.sub.host(); d.covers(host) {
			yield(w.err, d.times.since(host, w.since))
		}
	}
}

// clockWentBack corrects what was noted by a clock that was ahead: the schedule does
// the same for the appointments.
func (d *dnsWaits) clockWentBack(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.hosts {
		w.since, w.probed = pace.Earlier(w.since, now), pace.Earlier(w.probed, now)
		w.toldAt, w.lastRead = pace.Earlier(w.toldAt, now), pace.Earlier(w.lastRead, now)
		if soon := now.Add(firstProbe); w.err.RetryAt.After(soon) {
			w.setNext(soon)
		}
	}
}

// since returns since when a host waits, also before a restart, or zero.
func (d *dnsWaits) since(host string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.hosts[host]; w != nil && d.covers(host) {
		return d.times.since(host, w.since)
	}
	return time.Time{}
}

// addressesOf returns the addresses that a preflight has found, sorted.
func addressesOf(err error) []netip.Addr {
	found, ok := errors.AsType[*preflight.Error](err)
	if !ok {
		return nil
	}
	return slices.SortedFunc(slices.Values(found.Addrs), netip.Addr.Compare)
}

// has reports whether there is a wait of a host, which may have left the list.
func (d *dnsWaits) has(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts[host] != nil
}

// names returns the hosts for which has is true.
func (d *dnsWaits) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.hosts))
}
