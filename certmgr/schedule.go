package certmgr

import (
	"context"
	"math"
	"sync"
	"time"
)

// renewals knows when each certificate in memory is due and when the CA is to
// be asked about it. One goroutine looks after all of them and hands what is due
// to a bounded number of workers. It holds subjects and no certificates: what is
// due is looked up again when its time has come.
type renewals struct {
	s *stages

	mu      sync.Mutex
	items   map[subject]*renewalItem
	agendas [agendaKinds]agenda
	running bool
	wake    chan struct{} // capacity 1
}

// renewalItem is one subject. renewals.mu guards it.
type renewalItem struct {
	sub   subject
	renew appointment // in agendaRenew or agendaRetry
	ask   appointment // in agendaAsk
	plan  plan
	late  lateness
	paced pacing // of a first issuance
	owed  bool   // a first issuance that is wanted whether or not a Start is under way
}

const (
	// maxRenewing is how many subjects are looked at side by side at the most.
	// MaxIssuing bounds the issuances among them.
	maxRenewing = 64

	// maxAsking bounds the questions about renewal that are open at the CA.
	maxAsking = 16

	// maxTimer makes the scheduler look at the clock now and then: timers do
	// not follow a clock that jumps, nor a machine that slept.
	maxTimer = 10 * time.Minute

	// retryRenewal is the wait after a renewal that could not begin: the
	// cache cannot be read, or no slot became free.
	retryRenewal = 5 * time.Minute
)

func newRenewals(s *stages) *renewals {
	r := &renewals{s: s, items: make(map[subject]*renewalItem), wake: make(chan struct{}, 1)}
	r.agendas[agendaRenew].limit = maxRenewing
	r.agendas[agendaRetry].limit = maxRenewing / 2
	r.agendas[agendaAsk].limit = maxAsking
	return r
}

// issued schedules a certificate that has just been issued.
func (r *renewals) issued(c *certificate) {
	now := r.s.now()
	r.begin(c, planFor(c, r.s.settings.renewBefore, now), now)
	r.s.progress.have(c.subject.host())
}

// loaded schedules a certificate that was in the cache; it may be due at once.
func (r *renewals) loaded(c *certificate) {
	r.begin(c, planFor(c, r.s.settings.renewBefore, time.Time{}), r.s.now())
	r.s.progress.have(c.subject.host())
}

// begin starts the plan for a new certificate.
func (r *renewals) begin(c *certificate, p plan, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(c.subject)
	it.plan, it.late, it.owed = p, lateness{}, false
	r.set(&it.renew, agendaRenew, p.due())
	if p.certID == "" {
		r.agendas[agendaAsk].cancel(&it.ask)
		return
	}
	r.set(&it.ask, agendaAsk, now.Add(firstAsk()))
}

// at sets when sub is looked at again after a failure. If it has no certificate
// one is issued then.
func (r *renewals) at(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	it.owed = true
	r.set(&it.renew, agendaRetry, t)
}

// firstAt is at for a host that a Start wants, for as long as it does.
func (r *renewals) firstAt(sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(&r.item(sub).renew, agendaRetry, t)
}

// isWanted reports whether a first issuance for sub is still wanted.
func (r *renewals) isWanted(sub subject) bool {
	if r.s.settings.hosts.match(sub.host()) != matchExact {
		return false
	}
	r.mu.Lock()
	it := r.items[sub]
	owed := it != nil && it.owed
	r.mu.Unlock()
	return owed || r.s.progress.wants(sub.host())
}

// first schedules the first issuance for a host that nobody waits for.
func (r *renewals) first(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.item(sub); it.renew.index < 0 {
		r.set(&it.renew, agendaRenew, r.s.now())
	}
}

// pace reports whether a first issuance may begin now; if not it is looked at
// again when it may.
func (r *renewals) pace(sub subject, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	for it.paced != paceAccount {
		var at time.Time
		it.paced, at = r.s.startPace.next(sub.host(), it.paced, now)
		if at.After(now) {
			r.set(&it.renew, agendaRenew, at)
			return false
		}
	}
	it.paced = paceDomain // the account's is used up, the domain's only by a success
	return true
}

// item returns the item of sub, a new one if need be. r.mu is held.
func (r *renewals) item(sub subject) *renewalItem {
	it := r.items[sub]
	if it == nil {
		it = &renewalItem{sub: sub}
		it.renew = appointment{item: it, index: -1}
		it.ask = appointment{item: it, index: -1}
		r.items[sub] = it
	}
	return it
}

// set makes or moves an appointment and wakes the scheduler. r.mu is held.
func (r *renewals) set(p *appointment, kind agendaKind, t time.Time) {
	if p.kind != kind {
		r.agendas[p.kind].cancel(p)
		p.kind = kind
	}
	r.agendas[kind].set(p, unixNano(t))
	if !r.running {
		r.running = r.s.tasks.Go(r.run)
	}
	r.poke()
}

// unixNano is t.UnixNano for the times that it is defined for; a CA may date
// certificates beyond them.
func unixNano(t time.Time) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	if s := t.Unix(); s <= 0 || s >= most {
		return min(max(s, 0), most) * int64(time.Second)
	}
	return t.UnixNano()
}

func (r *renewals) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// describe fills in when sub is due and what decided that, for Snapshot. late
// says that its renewal fails.
func (r *renewals) describe(sub subject, st *HostStatus) (late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[sub]
	if it == nil {
		return false
	}
	st.RenewAt, st.ExplanationURL = time.Unix(0, it.renew.at), it.plan.window.explanation
	switch {
	case it.renew.kind == agendaRetry:
		st.RenewBy = RenewByRetry
	case it.plan.bySuggestion():
		st.RenewBy = RenewByCA
	default:
		st.RenewBy = RenewByLifetime
	}
	return it.late.left > 0
}

func (r *renewals) drop(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[sub]; it != nil {
		r.remove(it)
	}
}

// dropUnplanned drops a subject unless a certificate has turned up for it.
func (r *renewals) dropUnplanned(sub subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items[sub]; it != nil && (it.plan.byAge.IsZero() || r.s.memory.current(sub) == nil) {
		r.remove(it)
	}
}

func (r *renewals) remove(it *renewalItem) {
	r.agendas[it.renew.kind].cancel(&it.renew)
	r.agendas[agendaAsk].cancel(&it.ask)
	delete(r.items, it.sub)
}

// run sends what is due on its way, until ctx ends.
func (r *renewals) run(ctx context.Context) {
	timer := time.NewTimer(maxTimer)
	defer timer.Stop()
	last := r.s.now().UnixNano()
	for {
		now := r.s.now()
		if now.UnixNano() < last-int64(time.Minute) {
			r.clockWentBack(now)
		}
		last = now.UnixNano()
		timer.Reset(r.dispatch(now))
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// clockWentBack plans anew what a clock planned that was ahead: its appointments
// may be days or years away, and nobody would look at them before.
func (r *renewals) clockWentBack(now time.Time) {
	s := r.s
	s.issuer.breaker.clockWentBack(now)
	s.failures.clockWentBack(now)
	s.startPace.reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	for sub, it := range r.items {
		cert := s.memory.current(sub)
		it.paced = paceNone
		if cert != nil && it.plan.certID != "" {
			r.set(&it.ask, agendaAsk, now.Add(firstAsk()))
		}
		switch {
		case it.renew.index < 0: // being looked at
		case cert == nil || it.renew.kind == agendaRetry:
			r.set(&it.renew, it.renew.kind, earlier(time.Unix(0, it.renew.at), now.Add(jitter(retryRenewal))))
		default:
			if it.plan.earliest.After(notDueBefore(cert, now)) {
				it.plan.notBefore(now, cert)
			}
			r.set(&it.renew, agendaRenew, it.plan.due())
		}
	}
}

// dispatch starts a worker for all that is due as far as there are any, and
// returns how long the rest waits.
func (r *renewals) dispatch(now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = maxTimer
	for kind := range r.agendas {
		for {
			p, left := r.agendas[kind].next(now.UnixNano())
			if p == nil {
				wait = min(wait, left)
				break
			}
			if !r.s.tasks.Go(func(ctx context.Context) { r.work(ctx, agendaKind(kind), p.item) }) {
				return maxTimer // closed
			}
		}
	}
	return wait
}

// work keeps one appointment and frees its worker. One that made no new
// appointment, whatever went wrong, is looked at again: nothing is forgotten.
func (r *renewals) work(ctx context.Context, kind agendaKind, it *renewalItem) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.agendas[kind].busy--
		if kind != agendaAsk && it.renew.index < 0 && r.items[it.sub] == it {
			r.set(&it.renew, agendaRetry, r.s.now().Add(retryRenewal))
		}
		r.poke()
	}()
	if kind == agendaAsk {
		r.ask(ctx, it.sub)
		return
	}
	r.renew(ctx, it.sub)
}
