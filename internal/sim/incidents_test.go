package sim

import (
	"cmp"
	"crypto/x509"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/pace"
)

// incidentKind is a kind of incident.
type incidentKind int

const (
	caOutage incidentKind = iota
	caStall
	caStorm
	caGarbage
	caStuck
	caInvalid
	caOdd
	hostRefused
	accountBlocked
	profileGone
	caNonces
	ariTrouble
	dnsMoved
	cacheReads
	cacheWrites
	clockOff
	restart
	restartEmpty
	hostRemoved
	massRevocation
	lostExchange
	killed
	asleep
)

// incidentPlan says how often a kind of incident happens, and how long it
// lasts.
type incidentPlan struct {
	kind        incidentKind
	name        string
	every       time.Duration
	least, most time.Duration // 0 if it is over at once
	// recovery is how long after its end handshakes may still be refused: the
	// longest possible backoff. 0 means that the incident causes no failures.
	recovery time.Duration
	oneHost  bool
}

// backoff is the longest possible backoff of a host (a day plus jitter) plus an
// attempt; a Retry-After is cut to a day as well.
const backoff = 27 * time.Hour

var plans = []*incidentPlan{
	{caOutage, "outage of the CA", 60 * day, time.Minute, 5 * day, backoff, false},
	{caStall, "stall of the CA", 90 * day, time.Minute, 7 * day, backoff, false},
	{caStorm, "storm of 429", 90 * day, time.Minute, 4 * day, 2 * backoff, false},
	{caGarbage, "garbage from the CA", 150 * day, time.Minute, 2 * day, backoff, false},
	{caStuck, "orders stuck in processing", 150 * day, time.Minute, 2 * day, backoff, false},
	{caInvalid, "orders that are invalid at once", 200 * day, time.Minute, day, backoff, false},
	{caOdd, "an oddity of the CA", 40 * day, 10 * day, 60 * day, 0, false},
	{hostRefused, "the CA refuses the host", 100 * day, time.Minute, 40 * day, backoff, true},
	{accountBlocked, "the account is blocked", 180 * day, day, 10 * day, backoff, false},
	// It is looked at again after an hour with jitter at most.
	{profileGone, "the CA withdraws the profile", 120 * day, time.Minute, 5 * day, 2 * time.Hour, false},
	{caNonces, "bad nonces", 100 * day, time.Hour, 5 * day, backoff, false},
	{ariTrouble, "renewal information fails", 60 * day, time.Hour, 30 * day, 0, false},
	{dnsMoved, "DNS moves away", 40 * day, time.Minute, 60 * day, backoff, true},
	{cacheReads, "cache reads", 80 * day, time.Minute, 3 * day, 2 * time.Hour, false},
	{cacheWrites, "cache writes", 80 * day, time.Minute, 3 * day, 2 * time.Hour, false},
	{clockOff, "clock", 120 * day, time.Minute, 10 * day, backoff, false},
	{restart, "restart", 45 * day, 0, 0, 0, false},
	{restartEmpty, "restart without the cache", 400 * day, 0, 0, 0, false},
	{hostRemoved, "host off the list", 100 * day, time.Minute, 90 * day, time.Hour, true},
	{massRevocation, "mass revocation", 500 * day, 30 * time.Hour, 5 * day, 0, false},
	{lostExchange, "one exchange fails", 15 * day, day, 20 * day, 0, false}, // the next one of its kind
	{killed, "kill during the next writes", 40 * day, 0, 0, 0, false},
	{asleep, "machine or process stopped", 120 * day, 0, 0, time.Hour, false},
}

// incident is one incident.
type incident struct {
	*incidentPlan
	host    int
	variant int // one of several variants
	lasts   time.Duration

	begun     time.Time
	undo      []func()
	announced map[*host]*x509.Certificate // certificates that the CA will revoke
}

// affects reports whether the incident makes a host fail.
func (i *incident) affects(w *world, h *host) bool {
	return i.recovery > 0 && (!i.oneHost || w.hosts[i.host] == h)
}

// beginIncident starts an incident.
func (w *world) beginIncident(i *incident) {
	w.mu.Lock()
	i.begun = time.Now()
	w.active[i] = true
	for _, h := range w.hosts {
		if i.affects(w, h) {
			h.trouble[i] = true
		}
	}
	w.mu.Unlock()
	switch i.kind {
	case restart:
		w.restart()
	case restartEmpty:
		w.loseCache()
		w.restart()
	case dnsMoved:
		w.mu.Lock()
		w.point(w.hosts[i.host])
		w.mu.Unlock()
	case cacheReads:
		w.cache.set(cacheFault(1+i.variant%2), cacheWorks)
	case cacheWrites:
		w.cache.set(cacheWorks, cacheFault(1+i.variant%2))
	case clockOff:
		w.setSkew(time.Duration(i.variant%97-48) * time.Hour)
	case hostRemoved:
		w.remove(w.hosts[i.host])
	case massRevocation:
		w.announceRevocation(i)
	case killed:
		w.p.arm(i.variant % killSteps)
	case asleep:
		rng := rand.New(rand.NewPCG(w.seed, uint64(i.variant)))
		w.stop(logUniform(rng, time.Minute, 3*day), i.variant%2 == 0)
	case caOdd:
		i.undo = append(i.undo, oddities[i.variant%len(oddities)].begin(w.ca, "*")...)
	case hostRefused:
		i.undo = append(i.undo, refuseHost(w.ca, w.hosts[i.host].name, i.variant))
	case profileGone:
		i.undo = append(i.undo, withdrawProfile(w.ca, i.variant, cmp.Or(w.profile, w.ca.DefaultProfile)))
	case accountBlocked:
		i.undo = append(i.undo, blockAccounts(w.ca, i.variant))
	case lostExchange:
		i.undo = append(i.undo, w.loseExchange(i))
	default:
		i.undo = append(i.undo, i.breakCA(w.ca)...)
	}
}

// shortLived is the lifetime of certificates for addresses.
const shortLived = 160 * time.Hour

// endIncident ends an incident.
func (w *world) endIncident(i *incident) {
	for _, undo := range i.undo {
		undo()
	}
	w.mu.Lock()
	delete(w.active, i)
	for _, h := range w.hosts {
		if i.affects(w, h) {
			delete(h.trouble, i)
			recovery := i.recovery
			if i.kind == clockOff && isAddress(h.name) {
				// A certificate for 6 days does not fit such a clock, and the next
				// one is tried after half its lifetime.
				recovery += shortLived / 2
			}
			h.healthy = pace.Later(h.healthy, time.Now().Add(recovery))
		}
	}
	w.mu.Unlock()
	switch i.kind {
	case dnsMoved:
		w.mu.Lock()
		w.point(w.hosts[i.host])
		w.mu.Unlock()
	case cacheReads, cacheWrites:
		w.cache.set(cacheWorks, cacheWorks)
		w.mu.Lock()
		w.forgetful = time.Now()
		w.mu.Unlock()
	case clockOff:
		w.setSkew(0)
	case hostRemoved:
		w.addAgain(w.hosts[i.host])
	case ariTrouble:
		w.mu.Lock()
		w.ariHealthy = time.Now().Add(7 * time.Hour)
		w.mu.Unlock()
	case massRevocation:
		w.revoke(i)
	}
}

// loseExchange makes one exchange fail, when it takes place. Two of one place would
// both hit the same attempt, where such exchanges are rare.
func (w *world) loseExchange(i *incident) (undo func()) {
	w.mu.Lock()
	for other := range w.active {
		if other != i && other.kind == lostExchange && other.place() == i.place() {
			w.mu.Unlock()
			return func() {}
		}
	}
	w.mu.Unlock()
	f, p := &exchangeFaults[i.variant%len(exchangeFaults)], places[i.place()]
	if f.not != nil && f.not(p) {
		f = &exchangeFaults[0]
	}
	return f.begin(w.ca, p, p.match(1))
}

// place returns which of places an exchange that is lost is of.
func (i *incident) place() int { return i.variant / len(exchangeFaults) % len(places) }

// breakCA makes the CA fail in one of the ways of the incident's kind.
func (i *incident) breakCA(ca *acmetest.Server) (undo []func()) {
	any := acmetest.Match{}
	down := acmetest.Problem{Type: "serverInternal", Detail: "outage"}
	endpoints := []acmetest.Endpoint{acmetest.NewOrder, acmetest.Authorization, acmetest.Challenge, acmetest.Finalize, acmetest.Order, acmetest.Certificate}
	one := acmetest.Match{Endpoint: endpoints[i.variant%len(endpoints)]}
	retryAfter := []string{"3600", "0", "-17", "999999999999", "Fri, 01 Jan 1990 00:00:00 GMT", "soon", "86400"}
	switch i.kind {
	case caOutage:
		switch i.variant % 3 {
		case 0:
			return []func(){ca.Status(any, http.StatusServiceUnavailable, nil, down).Lift}
		case 1:
			return []func(){ca.Drop(any).Lift}
		default:
			return []func(){ca.Status(one, http.StatusInternalServerError, nil, down).Lift}
		}
	case caStall:
		if i.variant%2 == 0 {
			return []func(){ca.Stall(any).Lift}
		}
		return []func(){ca.Stall(one).Lift}
	case caStorm:
		header := http.Header{"Retry-After": {retryAfter[i.variant%len(retryAfter)]}}
		return []func(){ca.Status(one, http.StatusTooManyRequests, header, acmetest.Problem{Type: "rateLimited", Detail: "storm"}).Lift}
	case caGarbage:
		switch i.variant % 2 {
		case 0:
			return []func(){ca.Garbage(one).Lift}
		default:
			return []func(){ca.EndlessBody(one).Lift}
		}
	case caStuck:
		return []func(){ca.StuckProcessing("*").Lift}
	case caInvalid:
		return []func(){ca.InvalidOrder("*").Lift}
	case caNonces:
		ca.BadNonceRate(0.3)
		return []func(){func() { ca.BadNonceRate(0) }}
	case ariTrouble:
		ask := acmetest.Match{Endpoint: acmetest.RenewalInfo}
		switch i.variant % 3 {
		case 0:
			return []func(){ca.Stall(ask).Lift}
		case 1:
			return []func(){ca.Garbage(ask).Lift}
		default:
			return []func(){ca.Status(ask, http.StatusInternalServerError, nil, down).Lift}
		}
	}
	panic("sim: unknown incident " + i.name)
}

// loseCache empties the cache.
func (w *world) loseCache() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accounts++
	w.forgetful = time.Now()
	w.cache.clear()
}

func (w *world) setSkew(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skew = d
	w.setCAClock()
}

// setCAClock sets the CA's clock by the machine's, which may have been
// suspended. w.mu is held.
func (w *world) setCAClock() {
	w.ca.SetClockSkew(time.Duration(w.clock.slept.Load()) + w.skew)
}

// stop suspends the machine for d, or stops the process. The CA continues.
func (w *world) stop(d time.Duration, onlyProcess bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock.stop(d, onlyProcess)
	for _, h := range w.hosts {
		h.own.suspended(d)
	}
	w.setCAClock()
}

// remove takes a host off the list.
func (w *world) remove(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.removals++; h.removals > 1 {
		return // off the list already
	}
	h.allowed, h.since, h.served = false, time.Now(), nil
	w.regrouped = time.Now()
	w.p.m.Hosts.Remove(h.name)
}

func (w *world) addAgain(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.removals--; h.removals > 0 {
		return // another incident keeps it off
	}
	h.absences = append(h.absences, span{h.since, time.Now()})
	h.allowed, h.since = true, time.Now()
	w.regrouped = time.Now()
	must(w.p.m.Hosts.Add(w.entry(w.p.m.Hosts, h)))
}

// announceRevocation moves the renewal windows of the served certificates into
// the past.
func (w *world) announceRevocation(i *incident) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i.announced = make(map[*host]*x509.Certificate)
	now := w.clock.wall().Add(w.skew)
	for _, h := range w.hosts {
		if h.served == nil || h.own.isOwn(h.served) {
			continue
		}
		i.announced[h] = h.served
		w.ca.SetRenewalWindow(h.served, acmetest.RenewalWindow{Start: now.Add(-2 * time.Hour), End: now.Add(-time.Hour), ExplanationURL: "https://ca.example/incident"})
	}
}

// revoke revokes the announced certificates. Hosts that could get a new
// certificate must have one by now.
func (w *world) revoke(i *incident) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.ariHealthy.Before(i.begun)
	for other := range w.active {
		asked = asked && other.kind != ariTrouble
	}
	for h, leaf := range i.announced {
		w.ca.Revoke(leaf)
		if asked && len(h.trouble) == 0 && h.healthy.Before(i.begun) && h.allowed && h.since.Before(i.begun) && h.own.good == nil {
			h.revoked[leaf.SerialNumber.String()] = time.Now()
		}
	}
}
